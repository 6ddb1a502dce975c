"""Compares the program `engraft` with the reference libraries, both ways.

    roundtrip.py --engraft PATH                              # every fixture: hidden states, logits, loss, gradients
    roundtrip.py --engraft PATH --adapter DIR --model DIR    # an adapter engraft trained, read by `adapters` or PEFT
    roundtrip.py --engraft PATH --manage                     # fixtures renamed, converted, merged and folded, read by the libraries
    roundtrip.py                                             # the libraries read the fixtures back (checks this file)

The first needs no more than safetensors; the others run the libraries in float64, one sequence at a time. An
error is the largest difference in a tensor over its largest value. Exits with 1 above the tolerance.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import load_file

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
GRAFTED = ("lora_", "ia3_l", "vera_lambda", "ln_tuning_", "modules_to_save")  # what PEFT must find in a file
FOLDERS = ("bert", "lora", "tagging", "gpt2", "inputs", "weights", "linear", "t5", "values")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engraft", type=Path, help="the program")
    p.add_argument("--case", action="append", help="only these fixtures, as in lora/qv")
    p.add_argument("--adapter", type=Path, help="a directory engraft saved")
    p.add_argument("--model", type=Path, help="the backbone it was trained on")
    p.add_argument("--manage", action="store_true", help="what `engraft adapters` and `engraft fold` write")
    p.add_argument("--ids", type=Path, help="sequences of ids; those of bert/plain if not given")
    p.add_argument("--tolerance", type=float, default=1e-4)
    args = p.parse_args()
    args.ids = args.ids or FIXTURES / "bert" / "plain" / "input.json"
    if args.adapter and not (args.model and args.engraft):
        p.error("--adapter needs --model and --engraft")
    if args.manage and not args.engraft:
        p.error("--manage needs --engraft")
    return args


def engraft_forward(program, model, ids, adapter=None, grad=False, task=None):
    """The tensors of `engraft forward`, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.safetensors"
        command = [program.resolve(), "forward", "--model", model, "--ids", ids, "--out", out]
        command += ["--adapter", adapter] if adapter else []
        command += ["--task", task] if task else []
        command += ["--grad"] if grad else []
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr.strip()}")
        return load_file(out)


def library_forward(model, ids, adapter):
    """What the library that wrote such a directory gives: logits, or hidden states if there is no head."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for library in ("adapters", "transformers", "peft"):
        logging.getLogger(library).setLevel(logging.ERROR)
    if (adapter / "adapter_setup.json").exists():
        module = with_setup(model, adapter)
    else:
        card = json.loads((adapter / "adapter_config.json").read_text())
        is_bitfit = isinstance(card.get("config"), dict) and card["config"].get("architecture") == "bitfit"
        how = with_peft if "peft_type" in card else with_biases if is_bitfit else with_adapters
        module = how(model, adapter, card)
    return library_rows(module.double().eval(), json.loads(Path(ids).read_text()))


def library_rows(module, batch):
    """Logits, or hidden states if there is no head, of sequences one by one."""
    import torch

    torch.set_default_dtype(torch.float64)  # of the empty tensor that ReFT makes where it has no positions
    out = []
    with torch.no_grad():
        for i, row in enumerate(batch["input_ids"]):
            inputs = dict(input_ids=torch.tensor([row]))
            if "token_type_ids" in batch and module.config.model_type == "bert":
                inputs["token_type_ids"] = torch.tensor([batch["token_type_ids"][i]])
            if module.config.is_encoder_decoder and "decoder_input_ids" in batch:
                inputs["decoder_input_ids"] = torch.tensor([batch["decoder_input_ids"][i]])
            if module.config.model_type == "gpt2":
                inputs["use_cache"] = False
            out.append(module(**inputs))
    torch.set_default_dtype(torch.float32)
    if "start_logits" in out[0]:
        return {"logits": torch.cat([torch.stack([o.start_logits[0], o.end_logits[0]], 1) for o in out]).numpy()}
    if "logits" not in out[0]:
        return {"last_hidden_state": torch.cat([o.last_hidden_state[0] for o in out]).numpy()}
    rows = [o.logits[0] for o in out]  # (labels) of a sequence, or (tokens, labels), perhaps behind those of a prompt
    of = batch.get("decoder_input_ids", batch["input_ids"])
    rows = [r if r.dim() == 1 else r[len(r) - len(ids):] for r, ids in zip(rows, of)]
    return {"logits": (torch.stack(rows) if rows[0].dim() == 1 else torch.cat(rows)).numpy()}


def with_setup(model, directory):
    """A composition, as `adapters` loads it: every adapter, fusion and head in its folder."""
    import adapters

    module = adapters.AutoAdapterModel.from_pretrained(model)
    _, head = module.load_adapter_setup(str(directory), set_active=True, use_safetensors=True)
    held = {k for f in Path(directory).rglob("*.safetensors") for k in load_file(f)}
    known = set(module.state_dict())
    if held - known:
        raise RuntimeError(f"adapters: unexpected {sorted(held - known)}")
    if head:
        module.active_head = head
    return module


def language_model(model, **how):
    """With its own head, which says what comes next or what is made of a text."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    is_pair = AutoConfig.from_pretrained(model).is_encoder_decoder
    return (AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM).from_pretrained(model, **how)


def with_adapters(model, adapter, card):
    """`adapters` must find every tensor it expects and no other. Without a head the model's own predicts the next token."""
    import adapters

    head, info = (adapter / "head_config.json").exists(), {}
    # other attentions of transformers do not mask causally behind a prefix
    if head:
        module = adapters.AutoAdapterModel.from_pretrained(model, attn_implementation="eager")
    else:
        module = language_model(model, attn_implementation="eager")
        adapters.init(module)
    safe = (adapter / "adapter.safetensors").exists()
    name = module.load_adapter(str(adapter), use_safetensors=safe, set_active=True, loading_info=info, with_head=head)
    tied = module.get_input_embeddings().weight  # a head may leave this out
    # the generator of prefixes hangs at every attention once more
    again = [k for k in info["missing_keys"] if ".prefix_tuning.pool." in k]
    missing = [k for k in info["missing_keys"] if k not in again and module.get_parameter(k) is not tied]
    if missing or info["unexpected_keys"]:
        raise RuntimeError(f"adapters: missing {missing}, unexpected {info['unexpected_keys']}")
    for unit in module.modules():
        if hasattr(unit, "subtract_projection"):  # which the library forgets
            unit.subtract_projection = card["config"].get("subtract_projection", True)
    if head:
        module.active_head = name
    return module


def with_biases(model, adapter, card):
    """No library has BitFit: the biases are put where their names say, parts of a fused layer's at their places."""
    import torch
    import adapters

    if (adapter / "head_config.json").exists():
        module = adapters.AutoAdapterModel.from_pretrained(model)
        module.active_head = module.load_head(str(adapter), use_safetensors=True)[1]
    else:
        module = language_model(model)
    params = dict(module.named_parameters())
    for name, values in load_file(adapter / "adapter.safetensors").items():
        bias, values = params[name.replace(f".bitfit.{card['name']}.", ".")].data, torch.tensor(values)
        if len(values) == len(bias):
            bias.copy_(values)
            continue
        parts = [i for i, part in enumerate("qkv") if part in card["config"]["biases"]]
        for i, part in zip(parts, values.chunk(len(parts))):
            bias.chunk(3)[i].copy_(part)
    return module


def with_peft(model, adapter, card):
    """PEFT must find every tensor it expects and no other."""
    import transformers
    from peft import PeftConfig, get_peft_model
    from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict

    weights = load_peft_weights(str(adapter), device="cpu")
    labels = [w.shape[0] for k, w in weights.items() if k.endswith(("classifier.weight", "score.weight"))]
    kind = {"SEQ_CLS": "ForSequenceClassification", "TOKEN_CLS": "ForTokenClassification", "CAUSAL_LM": "ForCausalLM",
            "SEQ_2_SEQ_LM": "ForSeq2SeqLM"}
    # a model that says something has its head with it
    alone = "ForSeq2SeqLM" if transformers.AutoConfig.from_pretrained(model).is_encoder_decoder else ""
    auto = getattr(transformers, "AutoModel" + kind.get(card["task_type"], alone))
    base = auto.from_pretrained(model, **(dict(num_labels=labels[0]) if labels else {}))
    module = get_peft_model(base, PeftConfig.from_pretrained(str(adapter)))
    found = set_peft_model_state_dict(module, weights)
    missing = [k for k in found.missing_keys if any(part in k for part in GRAFTED)]
    unexpected = [k for k in found.unexpected_keys if k != "prompt_embeddings"]  # loaded by itself
    if missing or unexpected:
        raise RuntimeError(f"peft: missing {missing}, unexpected {unexpected}")
    return module


def find(tensors, name):
    """A tensor, also under the other name that an adapter's first LayerNorm has."""
    for a, b in ((".adapter_norm_before.", ".adapter_down.0."), (".adapter_down.0.", ".adapter_norm_before.")):
        if name not in tensors and name.replace(a, b) in tensors:
            return tensors[name.replace(a, b)]
    return tensors.get(name)


def error(got, want):
    if got is None or got.size != want.size:
        return float("inf")
    got, want = got.reshape(-1).astype("f8"), want.reshape(-1).astype("f8")
    worst = abs(got - want).max()
    return float(worst / (abs(want).max() or 1.0)) if worst == worst else float("inf")


def compare(title, got, want, tolerance):
    """Prints the worst tensors; True if all are within the tolerance."""
    errors = {}
    for name, w in want.items():
        if name.startswith("curve"):
            continue
        errors[name] = error(find(got, name), w)
    worst = sorted(errors, key=errors.get, reverse=True)
    good = errors[worst[0]] <= tolerance
    print(f"{'ok  ' if good else 'FAIL'} {title:24} {len(errors):3} tensors, worst {errors[worst[0]]:.1e} {worst[0]}")
    for name in worst[1:6] if not good else []:
        print(f"     {errors[name]:.1e} {name}")
    return good


def backbone(folder):
    """The model that a case stands on: its own, that of its folder, or that of the family in its name."""
    if (folder / "model.safetensors").exists():
        return folder
    of_family = FIXTURES / folder.name.split("-")[0] / "model"
    in_folder = folder.parent / "model"
    return next(d for d in (of_family, in_folder, FIXTURES / "bert" / "model") if d.exists())


def fixtures(args):
    for folder in sorted(f for name in FOLDERS for f in (FIXTURES / name).iterdir()):
        title = f"{folder.parent.name}/{folder.name}"
        adapter = folder if (folder / "adapter_config.json").exists() else None
        if not (adapter or folder.name == "plain") or (args.case and title not in args.case):
            continue
        want, ids = load_file(folder / "expected.safetensors"), folder / "input.json"
        try:
            if args.engraft:
                has_loss = "loss" in want
                task = None if adapter or not has_loss else "seq2seq"
                got = engraft_forward(args.engraft, backbone(folder), ids, adapter, has_loss and not task, task)
                if not adapter and not task:  # `engraft forward` without an adapter has only these to show
                    want = {k: want[k] for k in ("last_hidden_state", "cu_seqlens")}
            elif adapter:
                got = library_forward(backbone(folder), ids, adapter)
                want = {k: want[k] for k in got}
            else:
                continue
            yield compare(title, got, want, args.tolerance)
        except RuntimeError as e:
            print(f"FAIL {title:24} {e}")
            yield False


def trained(args):
    want = library_forward(args.model, args.ids, args.adapter)
    got = engraft_forward(args.engraft, args.model, args.ids, args.adapter)
    yield compare(args.adapter.name, got, want, args.tolerance)


# what is written from fixtures of BERT, by command lines
MANAGED = {
    "renamed": "adapters rename {lora}/qv other",
    "to-peft": "adapters convert {lora}/qv --model {model} --to peft",
    "to-adapterhub": "adapters convert {lora}/peft-qv --model {model} --to adapterhub --name mine",
    "merged": "adapters merge --model {model} --adapters a={lora}/qv b={lora}/qv --weights 0.7,-0.4 --method svd --heads",
    "folded": "fold --model {model} --adapter {lora}/all",
}


def managed(args):
    from transformers import AutoModel

    model, lora = FIXTURES / "bert" / "model", FIXTURES / "lora"
    with tempfile.TemporaryDirectory() as scratch:
        for title, line in MANAGED.items():
            out = Path(scratch) / title
            words = [args.engraft.resolve(), *line.format(model=model, lora=lora).split(), "--out", out]
            subprocess.run([str(w) for w in words], check=True, capture_output=True)
            if title == "folded":
                plain = AutoModel.from_pretrained(out).double().eval()
                batch = json.loads(args.ids.read_text())
                want = library_rows(plain, batch)
                got = engraft_forward(args.engraft, model, args.ids, lora / "all")
            else:
                want = library_forward(model, args.ids, out)
                got = engraft_forward(args.engraft, model, args.ids, out)
            yield compare(title, got, want, args.tolerance)


def main():
    args = arguments()
    good = list(trained(args) if args.adapter else managed(args) if args.manage else fixtures(args))
    if not good:
        sys.exit("no such fixture")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
