"""PyTorch's side of gpt2_step.py and families_step.py: trains adapters for causal language modelling on `torch`.

A line of the file is a document; documents, each with the end-of-text token behind it, are one stream that is cut into blocks
of `--max-length` tokens. Houlsby adapters of `adapters` on the frozen model and its own head, or with `--lora` low-rank updates of
`peft`. The last line printed is a JSON object. The recipe is torch_common.py's.
"""

import os

import adapters
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from torch_common import houlsby, options, parsed, report, train


def blocks(args, config):
    tokenizer = Tokenizer.from_file(os.path.join(args.model, "tokenizer.json"))
    with open(args.train, encoding="utf-8") as f:
        lines = [line.rstrip("\n") for line in f]
    stream = [t for e in tokenizer.encode_batch(lines) for t in [*e.ids, config.eos_token_id]]
    return [stream[i : i + args.max_length] for i in range(0, len(stream), args.max_length)]


def build(args, config):
    for field in ("resid_pdrop", "embd_pdrop", "attn_pdrop", "attention_dropout"):
        if args.dropout is not None and hasattr(config, field):
            setattr(config, field, args.dropout)
    model = AutoModelForCausalLM.from_pretrained(args.model, config=config)
    if args.lora:
        of = dict(r=args.lora, lora_alpha=2 * args.lora, target_modules=["q_proj", "v_proj"])
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **of)).train()
    adapters.init(model)
    model.add_adapter("task", config=houlsby(config.hidden_size, args.bottleneck))
    model.train_adapter("task")
    return model.train()


def collate(items):
    """Blocks of one length: nothing is padded."""
    ids = torch.tensor(items)
    return dict(input_ids=ids, labels=ids, use_cache=False)


def main():
    p = options(__doc__, batch_size=4, max_length=256)
    p.add_argument("--lora", type=int, help="the rank of low-rank updates of queries and values, instead of adapters")
    args = parsed(p)
    config = AutoConfig.from_pretrained(args.model)
    report(args, train(build(args, config), args, blocks(args, config), collate))


if __name__ == "__main__":
    main()
