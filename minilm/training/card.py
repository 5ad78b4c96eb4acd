"""The model card: README.md beside the checkpoints, written from what a run left behind, so that no figure is typed."""
import json
from collections.abc import Iterable
from pathlib import Path

from minilm.model import GPTConfig
from minilm.training.corpus import MIN_P, MOST_REPEATED, TEMPERATURE
from minilm.training.evaluate import SAMPLING
from minilm.training.pretrain import EARLY_WEIGHT

TEMPLATE = Path(__file__).parent / "card_template.md"
HEADS_INTRODUCTION = """## Heads

Small parts trained beside frozen models, in `heads/`. Made by `python -m minilm.training exit-classifier
request-classifier lens ahead`, which wrote these figures; all are of held-out prompts and of greedy answers to them."""
EXIT_CLASSIFIER = """`minilm-14m-exit-classifier`: one linear map for all layers, CALM's (Schuster et al. 2022, App. D),
trained on {positions:,} positions of the model's own text, half of it greedy. How often each exit names the last
layer's token, over {held_out_positions:,} positions, and how well three confidences tell there whether it does (area
under the ROC curve):

"""
REQUEST_CLASSIFIER = """`minilm-14m-request-classifier`: a linear classifier after every layer, on the last token's
state, which names the kind of a request, one of {classes}. The first {words_left_out} words, which often tell it, are
left out. Trained on {prompts:,} prompts; share of {held_out_prompts:,} held-out ones that are right:

"""
LENS = """`smollm2-135m-instruct-lens`: for each of these exits of SmolLM2-135M-Instruct an affine map to the last
layer's state, by least squares on {trained_positions:,} positions of its own text, then {steps} steps on the KL to the
last layer's distribution over {words:,} common tokens. How often the exit names the last layer's token, over
{held_out_positions:,} positions: read as it is, through the least-squares map, and through the lens that is shipped:

"""
AHEAD = """`minilm-14m-ahead`: {heads} look-ahead heads for blockwise decoding (Stern et al. 2018; Medusa, Cai et al.
2024). Each sees the last layer's state and the token that the model chose from it, and names one of the tokens after
that one. Trained on {positions:,} positions of the model's own text, two thirds of it greedy. How often a head's first
guess, its second and so on are the token, over {held_out_positions:,} positions of greedy text:

"""
TOKENS_PER_PASS = """

Tokens for each pass of the model, greedy, over {prompts} of these prompts and up to {max_new_tokens} tokens each:
{means}."""
RECURRENT = """`smollm2-135m-instruct-draft`: a recurrent draft for SmolLM2-135M-Instruct with a reduced vocabulary,
the {words:,} tokens that its own text uses most. Distilled on {positions:,} positions of that text, in {minutes:.0f}
minutes on one core of a CPU. How often each draft is accepted, if those before it were right, over
{held_out_positions:,} places of its answers to {held_out_prompts} held-out prompts, greedy and at temperature 1:

"""


def write_card(folder: Path, into: Path) -> Path:
    """README.md in `into` from `folder`'s evaluation.json, logs, run.json and checkpoints; returns its path."""
    read = lambda name: json.loads((folder / name).read_text(encoding="utf-8"))     # noqa: E731
    result, run = read("evaluation.json"), read("run.json")
    pretrained, distilled = (_last_line(folder / name) for name in ("pretrain.jsonl", "distil.jsonl"))
    target, draft = (read(f"{name}/config.json") for name in ("minilm-14m", "minilm-1m"))
    text = TEMPLATE.read_text(encoding="utf-8").format(
        target_parameters=_parameters(target), draft_parameters=_parameters(draft), target_shape=_shape(target),
        draft_shape=_shape(draft), vocabulary=target["vocab_size"], positions=target["max_position_embeddings"],
        pretrain_tokens=pretrained["tokens"] / 1e6, distil_tokens=distilled["tokens"] / 1e6,
        pretrain_minutes=pretrained["seconds"] / 60, distil_minutes=distilled["seconds"] / 60,
        final=pretrained["final"], acceptance=distilled["acceptance"], answers=run["answers"],
        corpus_tokens=run["corpus_tokens"] / 1e6, own_tokens=run["own_tokens"] / 1e6, hardware=run["hardware"],
        temperature=run.get("temperature", TEMPERATURE), min_p=run.get("min_p", MIN_P),
        left_out=_left_out(run.get("most_repeated", MOST_REPEATED)), early_weight=run.get("early_weight", EARLY_WEIGHT),
        prompts=result["prompts"], max_new_tokens=result["max_new_tokens"], agreement=_agreement(result),
        positions_greedy=result["positions_greedy"], positions_sampled=result["positions_sampled"],
        draft_greedy=result["draft_accepted_greedy"], draft_sampled=result["draft_accepted_temperature_1"],
        show_temperature=SAMPLING.temperature, show_top_p=SAMPLING.top_p, samples=_samples(result),
        heads=heads_section(folder / "heads"))
    path = into / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


def heads_section(folder: Path) -> str:
    """What heads.json in `folder` tells, as the card's part "## Heads"; empty if there is none."""
    path = folder / "heads.json"
    if not path.is_file():
        return ""
    facts, parts = json.loads(path.read_text(encoding="utf-8")), [HEADS_INTRODUCTION]
    if "exit_classifier" in facts:
        found = facts["exit_classifier"]
        rows = {"layer": range(1, len(found["right"]) + 1), "exit is right": found["right"],
                **{name: found[name] for name in ("softmax", "saturation", "classifier")}}
        parts.append(EXIT_CLASSIFIER.format(**found) + _table(rows))
    if "request_classifier" in facts:
        found = facts["request_classifier"]
        parts.append(REQUEST_CLASSIFIER.format(**found)
                     + _table({"layer": range(1, len(found["accuracy"]) + 1), "right": found["accuracy"]}))
    if "lens" in facts:
        found = facts["lens"]
        parts.append(LENS.format(**found) + _table({"layer": found["exits"], **{
            name.replace("_", " "): shares for name, shares in found["agreement"].items()}}))
    if "ahead" in facts:
        parts.append(_ahead(facts["ahead"]))
    if "recurrent" in facts:
        found = facts["recurrent"]
        parts.append(RECURRENT.format(**found) + _table({"draft": range(1, len(found["greedy"]) + 1), **{
            name.replace("_", " "): found[name] for name in ("greedy", "temperature_1")}}))
    return "\n\n".join(parts) + "\n"


def _ahead(found: dict) -> str:
    """The look-ahead heads' part: the accuracy of each guess, and how far chains and trees of guesses get."""
    places = {f"head {k}": shares for k, shares in enumerate(found["accuracy"])}
    table = _table({"guess": range(1, len(found["accuracy"][0]) + 1), **places})
    passes = found["tokens_per_pass"]
    means = ", ".join(f"{value:.2f} with a {name}" for name, value in passes["mean"].items())
    return (AHEAD.format(heads=len(places), **found) + table
            + TOKENS_PER_PASS.format(means=means, **{key: passes[key] for key in ("prompts", "max_new_tokens")}))


def refresh_heads(folder: Path) -> None:
    """Write the section anew in the card beside the heads' folder, if there is a card."""
    card = folder.parent / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    before, next_section, after = text.partition("## Ten answers")
    if next_section:
        before = before.partition("## Heads")[0]
        card.write_text(f"{before}{heads_section(folder)}\n{next_section}{after}", encoding="utf-8")


def _table(rows: dict[str, Iterable]) -> str:
    """A Markdown table whose lines are `rows`; shares with three digits, what is missing as a dash."""
    shown = lambda x: "–" if x is None else f"{x:.3f}" if isinstance(x, float) else str(x)      # noqa: E731
    first, *others = [[name, *map(shown, values)] for name, values in rows.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in (first, ["---"] * len(first), *others))


def _left_out(most_repeated: float) -> str:
    if most_repeated >= 1:
        return ""
    return f"; answers of which more than {most_repeated:.0%} of the four-word runs repeat were left out"


def _last_line(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8").splitlines()[-1])


def _parameters(hf: dict) -> int:
    import torch

    from minilm.hf_config import config_from_hf
    from minilm.model import GPT
    config: GPTConfig = config_from_hf(hf)
    with torch.device("meta"):
        return GPT(config).num_parameters()


def _shape(hf: dict) -> str:
    return (f"{hf['num_hidden_layers']}, {hf['hidden_size']}, {hf['num_attention_heads']} / "
            f"{hf['num_key_value_heads']} of {hf['head_dim']}")


def _agreement(result: dict) -> str:
    """The agreement of all layers as a two-line table."""
    layers = result["layer_agreement"]
    return _table({"layer": range(1, len(layers) + 1), "agrees": layers})


def _samples(result: dict) -> str:
    """Prompts in bold, answers as quotations."""
    return "\n\n".join(f"**{s['prompt']}**\n\n" + "\n".join(f"> {line}".rstrip() for line in s["answer"].splitlines())
                       for s in result["samples"])
