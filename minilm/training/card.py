"""The model card: README.md beside the checkpoints, written from what a run left behind, so that no figure is typed."""
import json
from pathlib import Path

from minilm.model import GPTConfig
from minilm.training.corpus import MIN_P, MOST_REPEATED, TEMPERATURE
from minilm.training.evaluate import SAMPLING
from minilm.training.pretrain import EARLY_WEIGHT

TEMPLATE = Path(__file__).parent / "card_template.md"


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
        show_temperature=SAMPLING.temperature, show_top_p=SAMPLING.top_p, samples=_samples(result))
    path = into / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


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
    rows = [["layer", *map(str, range(1, len(layers) + 1))], ["agrees", *(f"{share:.3f}" for share in layers)]]
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(rows[0]), rows[1]))


def _samples(result: dict) -> str:
    """Prompts in bold, answers as quotations."""
    return "\n\n".join(f"**{s['prompt']}**\n\n" + "\n".join(f"> {line}".rstrip() for line in s["answer"].splitlines())
                       for s in result["samples"])
