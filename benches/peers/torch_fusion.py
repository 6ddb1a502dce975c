"""The PyTorch baseline of fusions: trains AdapterFusion over saved adapters with AdapterHub's `adapters` on a labelled TSV file.

The adapters do not train; the fusion and a linear head on the frozen pooler's output do, with the library's penalty on the values as
its `AdapterTrainer` has it. The last line printed is a JSON object. The recipe is torch_common.py's.
"""

import torch
from adapters import AdapterFusionConfig
from adapters.composition import Fuse
from transformers import AutoTokenizer

from torch_common import backbone, options, parsed, report, train
from torch_train import rows


def arguments():
    p = options(__doc__)
    p.add_argument("--adapters", nargs="+", required=True, help="directories, each named as its adapter")
    p.add_argument("--unfreeze", action="store_true", help="the adapters train too")
    return parsed(p)


class Penalised(torch.nn.Module):
    """The model, its loss with the penalty of the fusion's values."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, **batch):
        out = self.model(**batch)
        out.loss = out.loss + self.model.base_model.get_fusion_regularization_loss()
        return out


def build(args, labels):
    model = backbone(args)
    names = [model.load_adapter(d, with_head=False, use_safetensors=True) for d in args.adapters]
    fuse = Fuse(*names)
    model.add_adapter_fusion(fuse, AdapterFusionConfig.load("dynamic"))
    model.add_classification_head("task", num_labels=len(labels), layers=1, use_pooler=True)
    model.train_adapter_fusion(fuse, unfreeze_adapters=args.unfreeze)
    model.active_head = "task"
    return Penalised(model).train()


def main():
    args = arguments()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    data = rows(args.train)
    labels = sorted({label for _, label in data})
    ids = tokenizer([text for text, _ in data], truncation=True, max_length=args.max_length)["input_ids"]
    data = [dict(input_ids=x, labels=labels.index(label)) for x, (_, label) in zip(ids, data)]

    def collate(items):
        batch = tokenizer.pad([dict(input_ids=i["input_ids"]) for i in items], return_tensors="pt")
        return dict(batch, labels=torch.tensor([i["labels"] for i in items]))

    report(args, train(build(args, labels), args, data, collate))


if __name__ == "__main__":
    main()
