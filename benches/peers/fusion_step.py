"""engraft and PyTorch side by side: a training step of AdapterFusion over three frozen Pfeiffer adapters of width 64.

The same weights, batches, dropout and threads as in step.py, which says how it is measured; PyTorch is torch_fusion.py. On BERT-base:
16 texts of 128 tokens.

    fusion_step.py --minilm DIR --engraft PATH
"""

import argparse
import sys
from pathlib import Path

from step import HERE, WIDTH, add_common, base_directory, checked, common, count_tokens, long_lines, run

CASES = ("base-dropout", "base")
NAMES = ("one", "two", "three")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minilm", type=Path, required=True, help="MiniLM-L6-H384 as a Hugging Face directory, for its tokenizer")
    p.add_argument("--steps", type=int, default=3, help="per epoch")
    add_common(p, CASES)
    return checked(p)


def saved_adapters(model, work):
    """Three adapters with random weights, as `adapters` saves them."""
    folders = [work / "adapters" / name for name in NAMES]
    if not all((f / "adapter.safetensors").exists() for f in folders):
        import torch
        from adapters import BertAdapterModel, SeqBnConfig

        torch.manual_seed(1)
        m = BertAdapterModel.from_pretrained(model)
        for name, folder in zip(NAMES, folders):
            m.add_adapter(name, config=SeqBnConfig(reduction_factor=m.config.hidden_size / WIDTH))
            folder.mkdir(parents=True, exist_ok=True)
            m.save_adapter(str(folder), name, use_safetensors=True, with_head=False)
    return folders


def cases(args, work):
    model = base_directory(args.minilm, work)
    train = long_lines(model, 16 * args.steps, work / "long.tsv")
    for name in args.case or CASES:
        dropout = None if name == "base-dropout" else 0
        yield name, dict(model=model, train=train, batch=16, steps=args.steps, dropout=dropout, tokens=count_tokens(model, train),
                         adapters=saved_adapters(model, work))


def torch_command(case, args, _out):
    return [sys.executable, HERE / "torch_fusion.py", *common(case, args), "--adapters", *case["adapters"]]


def engraft_command(flags):
    return lambda case, args, out: [args.engraft.resolve(), "fuse", "--adapters", *case["adapters"], "--head", "linear",
                                    "--json", "--out", out, *common(case, args), *flags]


if __name__ == "__main__":
    run(arguments(), cases, torch_command, engraft_command)
