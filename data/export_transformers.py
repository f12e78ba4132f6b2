"""Makes data/onnx/{bert,gpt2,llama}_tiny_*.onnx: small transformers with random weights, as exporters write them.

Run it with torch, onnxscript and transformers installed: ``python data/export_transformers.py [FOLDER]``. Nothing is
downloaded. ``script``: the TorchScript exporter (operator set 14: LayerNorm and GELU in pieces);
``dynamo``: torch.export, operator set 18, attention by scaled_dot_product_attention.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import onnx
import torch
import transformers

FOLDER = Path(__file__).parent / "onnx"
VOCABULARY, LENGTH, HIDDEN, HEADS, LAYERS = 99, 16, 32, 4, 2


class Bert(torch.nn.Module):
    """Token ids and their mask [N, S] -> the last hidden state [N, S, 32]; the mask is added to the scores."""

    def __init__(self, attention: str):
        super().__init__()
        config = transformers.BertConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            intermediate_size=64, max_position_embeddings=LENGTH, attn_implementation=attention,
        )  # fmt: skip
        self.model = transformers.BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids, attention_mask):
        bias = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * -10000.0
        hidden = self.model.embeddings(input_ids)
        for layer in self.model.encoder.layer:
            hidden = layer(hidden, bias)
            hidden = hidden if isinstance(hidden, torch.Tensor) else hidden[0]
        return hidden


class Decoder(torch.nn.Module):
    """Token ids [N, S] -> logits [N, S, 99], causal, without a cache."""

    def __init__(self, kind: str, attention: str):
        super().__init__()
        self.eager = attention == "eager"
        if kind == "gpt2":
            config = transformers.GPT2Config(
                vocab_size=VOCABULARY, n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS, n_positions=LENGTH,
                activation_function="gelu_new", use_cache=False, attn_implementation=attention,
            )  # fmt: skip
            self.model = transformers.GPT2LMHeadModel(config)
        else:
            config = transformers.LlamaConfig(
                vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=LAYERS,
                num_attention_heads=HEADS, num_key_value_heads=2, max_position_embeddings=LENGTH, use_cache=False,
                attn_implementation=attention,
            )  # fmt: skip
            self.model = transformers.LlamaForCausalLM(config)

    def forward(self, input_ids):
        if not self.eager:
            return self.model(input_ids=input_ids, use_cache=False).logits
        length = input_ids.shape[1]
        blocked = torch.full((length, length), -1e4).triu(1)[
            None, None
        ]  # the mask, which scores are added to
        positions = torch.arange(length)[None]
        return self.model(input_ids, attention_mask=blocked, position_ids=positions, use_cache=False).logits


def make(kind: str, attention: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], list[str]]:
    """The module with random weights, example inputs and their names."""
    torch.manual_seed(0)
    module = Bert(attention) if kind == "bert" else Decoder(kind, attention)
    for name, parameter in module.named_parameters():  # not ones and zeros, which would hide mistakes
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("weight") else 0.0, 0.1)
        else:
            torch.nn.init.normal_(parameter, 0.0, 0.15)
    ids = torch.randint(0, VOCABULARY, (2, 8))
    if kind != "bert":
        return module.eval(), (ids,), ["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return module.eval(), (ids, mask), ["input_ids", "attention_mask"]


def export(kind: str, way: str, path: Path) -> None:
    """Write one model."""
    module, inputs, names = make(kind, "eager" if way == "script" else "sdpa")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if way == "script":
            axes = {name: {0: "batch", 1: "sequence"} for name in [*names, "output"]}
            torch.onnx.export(
                module, inputs, path, dynamo=False, opset_version=14, input_names=names,
                output_names=["output"], dynamic_axes=axes,
            )  # fmt: skip
        else:
            dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=LENGTH)}
            torch.onnx.export(
                module, inputs, path, dynamo=True, opset_version=18, input_names=names, output_names=["output"],
                dynamic_shapes=tuple(dims for _ in names), external_data=False, optimize=False, verbose=False,
            )  # fmt: skip
    model = onnx.load(path)
    for node in model.graph.node:  # what the exporter notes of the source takes more than the weights
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for kind in ("bert", "gpt2", "llama"):
        for way in ("script", "dynamo"):
            export(kind, way, folder / f"{kind}_tiny_{way}.onnx")
