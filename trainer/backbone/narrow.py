"""Cuts a narrower and shallower BERT out of a wide one, as a starting point for distillation.

Layer k of the student comes from layer k of the teacher. The states of the teacher, x, are written as
x = z P' + m with an orthonormal basis P of their principal components and their mean m at each place;
z is what the student computes. So a matrix W that reads states becomes W P, with W m added to its bias,
and a matrix that writes them becomes P' W. The attention heads and the feed-forward units that
contribute most are kept, the mean contribution of the others stands in for them. The normalisations
are matched in scale only, which is near enough: their weights are almost alike within a layer.
"""

import torch


@torch.no_grad()
def watch(teacher, tokens, mask, layers):
    """What goes in and out of the teacher's first layers, at every real token of a batch."""
    seen, hooks, real = {}, [], mask.bool()

    def keep(module, name, take):
        hooks.append(module.register_forward_hook(
            lambda _, given, out: seen.__setitem__(name, (given[0] if take == "in" else out)[real])))

    keep(teacher.embeddings.LayerNorm, "states 0", "out")
    for k, layer in enumerate(teacher.encoder.layer[:layers]):
        keep(layer.attention.output.dense, f"heads {k}", "in")
        keep(layer.attention.output.LayerNorm, f"between {k}", "out")
        keep(layer.output.dense, f"units {k}", "in")
        keep(layer.output.LayerNorm, f"states {k + 1}", "out")
    teacher(input_ids=tokens, attention_mask=mask)
    for hook in hooks:
        hook.remove()
    return seen


def basis_of(seen, width, seed):
    """An orthonormal basis of the states' principal components, turned so that all directions weigh alike."""
    total = 0
    for name, x in seen.items():
        if name.startswith(("states", "between")):
            x = x - x.mean(0)
            total = total + x.T @ x / x.square().sum()
    values, vectors = torch.linalg.eigh(total)
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed)))[0]
    kept = values.flip(0)[:width].sum() / values.sum()
    return vectors.flip(1)[:, :width] @ turn, kept.item()


def heaviest(x, out, size, keep):
    """The indices of the `keep` groups of `size` inputs whose part x_g out_g' varies most."""
    x = x - x.mean(0)
    parts = [(x[:, g : g + size] @ out[:, g : g + size].T).square().sum() for g in range(0, x.shape[1], size)]
    best = torch.tensor(parts).argsort(descending=True)[:keep].sort().values
    return torch.cat([torch.arange(g * size, (g + 1) * size) for g in best.tolist()])


@torch.no_grad()
def narrow(teacher, student, kept, tokens, mask, seed=1):
    """Fills the student from the teacher; returns the basis P.

    `kept` are the teacher's ids of the student's word pieces, `tokens` and `mask` a sample of text.
    """
    layers, width = student.config.num_hidden_layers, student.config.hidden_size
    size = teacher.config.hidden_size // teacher.config.num_attention_heads
    assert width // student.config.num_attention_heads == size, "heads must be as wide as the teacher's"
    seen = watch(teacher, tokens, mask, layers)
    p, share = basis_of(seen, width, seed)
    print(f"the student's {width} directions hold {share:.1%} of the variance of the teacher's states")

    def scale(norm, states):
        norm.weight.fill_(((states - states.mean(0)) @ p).square().mean().sqrt().item())
        norm.bias.zero_()

    def reading(new, old, rows, mean):
        new.weight.copy_(old.weight[rows] @ p)
        new.bias.copy_(old.weight[rows] @ mean + old.bias[rows])

    def writing(new, old, columns, x, norm):
        # The weights of the normalisation that follows are taken into the matrix, up to their mean.
        written = p.T @ (norm.weight[:, None] / norm.weight.mean() * old.weight)
        new.weight.copy_(written[:, columns])
        new.bias.copy_(-written[:, columns] @ x.mean(0)[columns])

    old, new = teacher.embeddings, student.embeddings
    spread = old.LayerNorm.weight[:, None] * p
    words = old.word_embeddings.weight[tokens[mask.bool()]].mean(0)
    places = old.position_embeddings.weight
    used = mask.sum(0).float()
    place = used @ places[: len(used)] / used.sum()
    new.word_embeddings.weight.copy_((old.word_embeddings.weight[kept] - words) @ spread)
    new.position_embeddings.weight.copy_((places[: len(new.position_embeddings.weight)] - place) @ spread)
    types = old.token_type_embeddings.weight
    new.token_type_embeddings.weight.copy_((types - types[0]) @ spread)
    scale(new.LayerNorm, seen["states 0"])
    for k in range(layers):
        old, new = teacher.encoder.layer[k], student.encoder.layer[k]
        states, between = seen[f"states {k}"], seen[f"between {k}"]
        heads = heaviest(seen[f"heads {k}"], old.attention.output.dense.weight, size, width // size)
        for name in ("query", "key", "value"):
            reading(getattr(new.attention.self, name), getattr(old.attention.self, name), heads, states.mean(0))
        writing(new.attention.output.dense, old.attention.output.dense, heads, seen[f"heads {k}"],
                old.attention.output.LayerNorm)
        scale(new.attention.output.LayerNorm, between)
        units = heaviest(seen[f"units {k}"], old.output.dense.weight, 1, student.config.intermediate_size)
        reading(new.intermediate.dense, old.intermediate.dense, units, between.mean(0))
        writing(new.output.dense, old.output.dense, units, seen[f"units {k}"], old.output.LayerNorm)
        scale(new.output.LayerNorm, seen[f"states {k + 1}"])
    return p
