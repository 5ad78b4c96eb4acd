"""The map of the course: what every lesson makes cheaper, as one table."""
from pathlib import Path

from minilm.viz import theme
from minilm.viz.html import cell, table

# number, notebook, title, what it makes cheaper
LESSONS = (
    ("00", "welcome", "Welcome: the race", ""),
    ("01", "gpt_from_scratch", "GPT from scratch", ""),
    ("02", "decoding_and_the_memory_wall", "Decoding and the memory wall", "work"),
    ("03", "early_exit_by_patience", "Early exit by patience: BranchyNet, DeeBERT, PABEE", "layers"),
    ("04", "calm", "CALM: confident adaptive language modeling", "layers"),
    ("05", "speculative_sampling", "Speculative sampling", "passes"),
    ("06", "drafting_without_a_draft_model", "Drafting without a draft model", "passes"),
    ("07", "lookahead_decoding", "Lookahead decoding, both of them", "passes"),
    ("08", "paged_attention", "PagedAttention and continuous batching", "memory"),
    ("09", "triton_warm_up", "Triton warm-up", "traffic"),
    ("10", "flash_attention", "FlashAttention-2", "traffic"),
    ("11", "flash_decoding", "Flash-Decoding", "traffic"),
    ("12", "putting_it_together", "Putting it together", "all of it"),
    ("13", "beyond_one_gpu", "Beyond one GPU", "all of it"),
)
SAVES = {
    "": ("", "transparent"),
    "work": ("don't compute twice", theme.SKY),
    "layers": ("fewer layers a token", theme.YELLOW),
    "passes": ("fewer passes a text", theme.GREEN),
    "memory": ("more requests in memory", theme.ORANGE),
    "traffic": ("fewer bytes moved", theme.PURPLE),
    "all of it": ("combined", "transparent"),
}


def course_map(notebooks: Path | str = ".") -> str:
    """All lessons as HTML: number, title, what is saved, and a link where the notebook is there in `notebooks`."""
    rows = []
    for number, name, title, saves in LESSONS:
        said, color = SAVES[saves]
        file = f"{number}_{name}.ipynb"
        here = (Path(notebooks) / file).is_file()
        status = f'<td style="text-align:left"><a href="{file}">open</a></td>' if here else cell("to come", mono=False)
        rows.append([cell(number), cell(title, mono=False, align="left", bold=here),
                     cell(said, mono=False, color=color), status])
    return table(rows, ("lesson", "title", "what it saves", ""))
