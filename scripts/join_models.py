"""Several networks in one model file, asked together: ``python scripts/join_models.py OUT.safetensors MODEL MODEL …``.

The probabilities of the networks are averaged (`mrmyo.segmentation_network.ThighNets`). The card names each with its
training; scores are left to be measured anew. The shipped model was made so from two trainings.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from safetensors.torch import load_file, save

from mrmyo.files import replacing
from mrmyo.segmentation import KIND, TOGETHER, load_model


def join(paths):
    """The weights of all as one safetensors file, and the card."""
    cards = [load_model(path).card for path in paths]
    for path, card in zip(paths, cards, strict=True):
        if card["architecture"]["kind"] != KIND:
            raise SystemExit(f"{path.name} holds {card['architecture']['kind']!r}; expected {KIND!r}.")
    weights = save({f"nets.{k}.{name}": value for k, path in enumerate(paths)
                    for name, value in load_file(path).items()})
    made = [card["architecture"] for card in cards]
    return weights, {
        "name": "+".join(card["name"] for card in cards), "sha256": hashlib.sha256(weights).hexdigest(),
        "architecture": {"kind": TOGETHER, "channels": [part["channels"] for part in made],
                         "classes": made[0]["classes"], "parameters": sum(part["parameters"] for part in made)},
        "input": cards[0]["input"],
        "training": {card["name"]: {"sha256": card["sha256"], **card["training"]} for card in cards},
        "data": " ".join(f"{card['name']}: {card['data']}" for card in cards), "scores": {}, "known_failures": [],
    }


def main():
    """Write the file and its card, each put in place at once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    options = parser.parse_args()
    weights, card = join(options.models)
    with replacing(options.out) as partial:
        partial.write_bytes(weights)
    with replacing(options.out.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
