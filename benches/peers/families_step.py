"""engraft and PyTorch side by side on three families: time per training step, tokens per second and peak memory.

- t5: the shape of T5-small, random weights, Houlsby adapters (bottleneck 64), sequence to sequence, 8 texts of 128 tokens with targets of
  32 a step. PyTorch is torch_seq2seq.py.
- llama: 12 layers of 768 with 12 heads, an inner width of 2,048 and 32,000 tokens (134 million random weights), LoRA of rank 8 on the
  queries and values, causal language modelling, 4 x 256 tokens a step. PyTorch is torch_lm.py, with `peft`.
- roberta: the shape of RoBERTa-base with MiniLM's vocabulary, random weights, Houlsby adapters and a linear head, 16 real sentences of
  different lengths a step. PyTorch is torch_train.py; with --grouped once more with batches of texts of like lengths.

All in f32 without dropout. How they are run and what is counted is step.py's.

    families_step.py --minilm DIR --train TSV --engraft PATH --grouped
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from step import HERE, add_common, checked, count_tokens, head, run

CASES = ("t5", "llama", "roberta")
SOURCE, TARGET, BLOCK = 128, 32, 256


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minilm", type=Path, required=True, help="MiniLM-L6-H384 as a Hugging Face directory, for its tokenizer")
    p.add_argument("--train", type=Path, required=True, help="TSV of real sentences: text, label")
    p.add_argument("--steps", type=int, help="per epoch; default: 3, on sentences 10")
    add_common(p, CASES)
    return checked(p)


def words(out, vocabulary, end, ends_texts):
    """A tokenizer that has a token for each of the words w1, w2, .. of a vocabulary, and perhaps a token behind each text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = {f"w{i}": i for i in range(vocabulary)}
    names["</s>"] = names.pop(f"w{end}")
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["</s>"])
    if ends_texts:
        pair = "$A </s> $B:1 </s>:1"
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair=pair, special_tokens=[("</s>", end)])
    tokenizer.save(str(out / "tokenizer.json"))
    about = dict(tokenizer_class="PreTrainedTokenizerFast", eos_token="</s>", unk_token="</s>", model_max_length=1024)
    (out / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n")


def made(out, build, finish):
    """A directory of random weights, made where it is missing."""
    if not (out / "model.safetensors").exists():
        import torch

        torch.manual_seed(0)
        build().save_pretrained(out)
        finish(out)
    return out


def line(n, first, vocabulary):
    return " ".join(f"w{3 + (first * 7919 + j * 104729) % (vocabulary - 4)}" for j in range(n))


def t5(args, work):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(decoder_start_token_id=0)
    model = made(work / "t5-random", lambda: T5ForConditionalGeneration(config), lambda out: words(out, config.vocab_size, 1, True))
    steps, train = args.steps or 3, work / "pairs.tsv"
    of = range(8 * steps)
    rows = (f"{line(SOURCE - 1, i, config.vocab_size)}\t{line(TARGET - 1, i + 1, config.vocab_size)}\n" for i in of)
    train.write_text("source\ttarget\n" + "".join(rows), encoding="utf-8")
    flags = ["--batch-size", 8, "--max-length", SOURCE, "--max-target-length", TARGET, "--bottleneck", 64]
    return dict(model=model, train=train, steps=steps, tokens=len(of) * (SOURCE + TARGET), flags=flags, torch="torch_seq2seq.py",
                engraft=["--task", "seq2seq", "--adapter", "houlsby"])


def llama(args, work):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=2048, vocab_size=32000,
                         max_position_embeddings=1024)
    model = made(work / "llama-random", lambda: LlamaForCausalLM(config), lambda out: words(out, config.vocab_size, 2, False))
    steps, train = args.steps or 3, work / "documents.txt"
    of = range(4 * steps)
    train.write_text("".join(f"{line(BLOCK - 1, i, config.vocab_size)}\n" for i in of), encoding="utf-8")
    return dict(model=model, train=train, steps=steps, tokens=len(of) * BLOCK, flags=["--batch-size", 4, "--max-length", BLOCK],
                torch="torch_lm.py", peer=["--lora", 8],
                engraft=["--task", "causal-lm", "--adapter", "lora[r=8,alpha=16,attn_matrices=[q,v]]"])


def roberta(args, work):
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(vocab_size=30522, max_position_embeddings=514, type_vocab_size=1, pad_token_id=0, layer_norm_eps=1e-5)

    def finish(out):
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
            if (args.minilm / name).exists():
                shutil.copy(args.minilm / name, out)

    model, steps = made(work / "roberta-random", lambda: RobertaModel(config), finish), args.steps or 10
    train = head(args.train, 16 * steps, work / "sentences.tsv")
    return dict(model=model, train=train, steps=steps, tokens=count_tokens(model, train), torch="torch_train.py",
                flags=["--batch-size", 16, "--max-length", 128, "--bottleneck", 64],
                engraft=["--adapter", "houlsby", "--head", "linear"])


def cases(args, work):
    for name in args.case or CASES:
        yield name, globals()[name](args, work)


def common(case, args):
    return ["--model", case["model"], "--train", case["train"], "--epochs", args.epochs, "--no-shuffle", "--seed", 0,
            "--threads", args.threads, "--dropout", 0, *case["flags"]]


def torch_command(case, args, _out):
    return [sys.executable, HERE / case["torch"], *common(case, args), *case.get("peer", [])]


def engraft_command(flags):
    return lambda case, args, out: [args.engraft.resolve(), "train", "--json", "--out", out, *common(case, args), *case["engraft"],
                                    *flags]


if __name__ == "__main__":
    run(arguments(), cases, torch_command, engraft_command)
