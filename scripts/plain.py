"""The plain way of computing what the repository computes fast: an oracle for the tests, a yardstick for the benchmark.

Nothing here is clever: scipy, torchvision, PIL and other packages as a user would call them, one sample, class,
slice at a time.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from dataloaders.augmentation import PatchDraw, StrongDraw, WeakDraw, draw_strong, draw_weak, patch_padding
from utils.reports.verification import medpy_metrics


def plain_zoom(array: np.ndarray, size) -> np.ndarray:
    """scipy's nearest zoom of a slice to `size`."""
    return ndimage.zoom(array, [new / old for new, old in zip(size, array.shape)], order=0)


def plain_weak(array: np.ndarray, draw: WeakDraw, size) -> np.ndarray:
    """Turn and flip, or rotate, then zoom a slice or its label."""
    if draw.angle is not None:
        array = ndimage.rotate(array, draw.angle, order=0, reshape=False)
    elif draw.flip_axis is not None:
        array = np.flip(np.rot90(array, draw.k), draw.flip_axis)
    return plain_zoom(array, size)


def plain_strong(image: np.ndarray, draw: StrongDraw) -> np.ndarray:
    """Colour jitter by torchvision, blur by PIL on 8 bits."""
    from PIL import Image, ImageFilter
    from torchvision.transforms import functional as TF

    tensor = torch.from_numpy(image)[None]
    steps = [(TF.adjust_brightness, draw.brightness), (TF.adjust_contrast, draw.contrast)]
    for adjust, factor in reversed(steps) if draw.contrast_first else steps:
        tensor = adjust(tensor, factor)
    image = tensor[0].numpy()
    if draw.blur_radius is None or image.min() == image.max():
        return image
    low, high = image.min(), image.max()
    grey = ((image - low) / (high - low) * 255).astype(np.uint8)
    blurred = np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(draw.blur_radius)))
    return (blurred / 255 * (high - low) + low).astype(np.float32)


def plain_views(image: np.ndarray, label: np.ndarray, rng: np.random.Generator, size) -> tuple:
    """Weak image, label, strong image of a slice."""
    draw = draw_weak(rng)
    image_w = plain_weak(image, draw, size)
    return image_w, plain_weak(label, draw, size), plain_strong(image_w, draw_strong(rng))


def plain_patch(array: np.ndarray, draw: PatchDraw, patch_size) -> np.ndarray:
    """Turn and flip the whole volume, pad it, crop the patch."""
    if draw.flip_axis is not None:
        array = np.flip(np.rot90(array, draw.k), draw.flip_axis)
    array = np.pad(array, [(pad, pad) for pad in patch_padding(array.shape, patch_size)])
    return array[tuple(slice(corner, corner + length) for corner, length in zip(draw.corner, patch_size))]


def plain_slices(net: torch.nn.Module, volume: np.ndarray, size, device) -> np.ndarray:
    """The label map of a volume, slice by slice: zoom, arg-max, zoom back."""
    planes = []
    for plane in volume:
        with torch.no_grad():
            logits = net(torch.from_numpy(plain_zoom(plane, size)).to(device)[None, None])[0]
        planes.append(plain_zoom(logits.argmax(dim=1)[0].cpu().numpy(), plane.shape))
    return np.stack(planes)


def plain_metrics(pred: np.ndarray, label: np.ndarray, num_classes: int, spacing=None, names=None) -> dict:
    """MedPy, class by class: name -> array over the foreground classes. Neither mask may be empty."""
    found = [medpy_metrics(pred == number, label == number, spacing, names) for number in range(1, num_classes)]
    return {name: np.array([values[name] for values in found]) for name in found[0]}


def monai_metrics(pred: np.ndarray, label: np.ndarray, spacing=None) -> dict:
    """MONAI, of two boolean masks. Its 95HD is the larger of the two directions' percentiles."""
    from monai import metrics

    pair = [torch.from_numpy(mask)[None, None].float() for mask in (pred, label)]
    options = {"include_background": True, "spacing": spacing}
    values = {
        "dice": metrics.compute_dice(*pair),
        "jaccard": metrics.compute_iou(*pair),
        "hd95": metrics.compute_hausdorff_distance(*pair, percentile=95, **options),
        "asd": metrics.compute_average_surface_distance(*pair, **options),
    }
    return {name: value.item() for name, value in values.items()}


def surface_distance_metrics(pred: np.ndarray, label: np.ndarray, spacing=None) -> dict:
    """surface-distance, of two boolean masks. Surfaces run between the voxels and their elements count by area, so only
    its Dice has the definition of the others."""
    import surface_distance as library

    found = library.compute_surface_distances(label, pred, spacing or (1,) * pred.ndim)
    return {
        "dice": library.compute_dice_coefficient(label, pred),
        "hd95_by_area": library.compute_robust_hausdorff(found, 95),
        "asd_by_area": library.compute_average_surface_distance(found)[1],
    }


# name -> module, function, its definition of 95HD
PEERS = {
    "MedPy": ("medpy", medpy_metrics, "pooled"),
    "MONAI": ("monai", monai_metrics, "max"),
    "surface-distance": ("surface_distance", surface_distance_metrics, "pooled"),
}


def plain_largest_component(label: np.ndarray, num_classes: int) -> np.ndarray:
    """Each slice and class on its own."""
    kept = np.zeros_like(label)
    for index, plane in enumerate(label):
        for cls in range(1, num_classes):
            components, _ = ndimage.label(plane == cls, structure=np.ones((3, 3)))
            sizes = np.bincount(components.ravel())
            if len(sizes) > 1:
                kept[index][components == 1 + np.argmax(sizes[1:])] = cls
    return kept


class PlainMemory:
    """SPC's prototype memory as a list of (feature, weight) for each class."""

    def __init__(self, num_classes: int, max_size: int = 128):
        self.rings = [[] for _ in range(num_classes)]
        self.max_size = max_size

    @torch.no_grad()
    def enqueue(self, prob, feat) -> None:
        label = prob.argmax(dim=1)
        for number, ring in enumerate(self.rings):
            entries = []
            for image in range(len(prob)):
                weight = prob[image, number]
                if (label[image] == number).any():
                    entries.append((weight * feat[image]).sum(dim=(1, 2)) / (weight.sum() + 1e-8))
            mean = torch.stack(entries).mean(dim=0) if entries else torch.zeros_like(feat[0, :, 0, 0])
            total = prob[:, number].mean(dim=(1, 2)).sum() if entries else prob.new_zeros(())
            ring.append((mean, total))
            del ring[: -self.max_size]

    def prototypes(self):
        protos = []
        for ring in self.rings:
            features, weights = (torch.stack(parts) for parts in zip(*ring))
            protos.append((features * weights[:, None]).sum(dim=0) / (weights.sum() + 1e-8))
        return torch.stack(protos)


def plain_dice(prob, label, mask=None, foreground=False):
    """SPC's Dice loss class by class; `foreground`: DuCiSC's, where `label` may be soft (B, C, *size)."""
    losses = []
    for number in range(int(foreground), prob.shape[1]):
        p = prob[:, number]
        t = label[:, number] if foreground else (label == number).to(p.dtype)
        m = torch.ones_like(p) if mask is None else mask.expand(p.shape)
        if foreground:
            losses.append(1 - (2 * (p * t * m).sum() + 1e-8) / ((p * m).sum() + (t * m).sum() + 1e-8))
        else:
            sums = ((value * m).sum() for value in (p * t, p * p, t * t))
            both, own, true = sums
            losses.append(1 - (2 * both + 1e-10) / (own + true + 1e-10))
    return sum(losses) / len(losses)


def plain_blend(image, lam, perm):
    blended = []
    for index, other in enumerate(perm.tolist()):
        (m_i, s_i), (m_j, s_j) = ((image[k].mean(), torch.sqrt(image[k].var() + 1e-6)) for k in (index, other))
        weight = lam[index]
        style = weight * s_i + (1 - weight) * s_j, weight * m_i + (1 - weight) * m_j
        blended.append(((image[index] - m_i) / s_i * style[0] + style[1]).clamp(0, 1))
    return torch.stack(blended)


def plain_contrast(z, proto, label):
    z, proto = torch.nn.functional.normalize(z, dim=1), torch.nn.functional.normalize(proto, dim=1)
    scores = torch.stack([(z * vector[None, :, None, None]).sum(dim=1) for vector in proto], dim=1)
    return torch.nn.functional.cross_entropy(scores, label)


def plain_mt(student, teacher, memory_w, memory_s, image_w, image_s, label_l, lam, perm, ramp):
    """The loss of an Ours-MT step. docs/METHODS.md section 2."""
    n = len(label_l)
    logits_w, feat_w = student(torch.cat([plain_blend(image_w, lam, perm)[:n], image_w[n:]]))
    logits_s, feat_s = student(image_s)
    prob_w, prob_s = logits_w.softmax(dim=1), logits_s.softmax(dim=1)
    with torch.no_grad():
        label_w, label_s = (teacher(image[n:])[0].argmax(dim=1) for image in (image_w, image_s))
    supervised = torch.nn.functional.cross_entropy(logits_w[:n], label_l) + plain_dice(prob_w[:n], label_l)
    consistency = plain_dice(prob_s[n:], prob_w[n:].argmax(dim=1))
    z_w, z_s = student.proj_head(feat_w[n:]), student.proj_head(feat_s[n:])
    memory_w.enqueue(prob_w[n:], z_w)
    memory_s.enqueue(prob_s[n:], z_s)
    contrast = plain_contrast(z_w, memory_s.prototypes(), label_w) + plain_contrast(z_s, memory_w.prototypes(), label_s)
    return supervised / 2 + ramp * (0.1 * consistency + contrast / 2)


def plain_bcp(student, teacher, memory_w, memory_s, image_w, image_s, label_l, lam, perm, mask, ramp):
    """The loss of an Ours-BCP self-training step. docs/METHODS.md section 3."""
    n, half, num_classes = len(label_l), len(label_l) // 2, len(memory_w.rings)
    image_l = plain_blend(image_w, lam, perm)[:n]
    a, b, label_a, label_b = image_l[:half], image_l[half:], label_l[:half], label_l[half:]
    u_a, u_b, s_a, s_b = image_w[n : n + half], image_w[n + half :], image_s[n : n + half], image_s[n + half :]
    outputs = student(u_a), student(u_b)
    pseudo_a, pseudo_b = (
        torch.from_numpy(plain_largest_component(logits.argmax(dim=1).cpu().numpy(), num_classes)).to(label_l.device)
        for logits, _ in outputs
    )
    outputs += student(s_a * mask + a * (1 - mask)), student(b * mask + s_b * (1 - mask))
    (logits_ua, feat_ua), (logits_ub, feat_ub), (logits_u, feat_u), (logits_l, feat_l) = outputs
    with torch.no_grad():
        labels = [teacher(image)[0].argmax(dim=1) for image in (u_a, u_b, s_a, s_b)]
    mix = 0
    for logits, inside, outside, weights in (
        (logits_u, label_a, pseudo_a, (1, 0.1 * ramp)),
        (logits_l, pseudo_b, label_b, (0.1 * ramp, 1)),
    ):
        for label, where, weight in ((inside, 1 - mask, weights[0]), (outside, mask, weights[1])):
            where = where.expand(label.shape)
            ce = (torch.nn.functional.cross_entropy(logits, label, reduction="none") * where).sum() / where.sum()
            mix = mix + weight * (ce + plain_dice(logits.softmax(dim=1), label, where))
    z_w = student.proj_head(torch.cat([feat_ua, feat_ub]))
    z_s = student.proj_head(feat_u * mask + feat_l * (1 - mask))
    memory_w.enqueue(torch.cat([logits_ua, logits_ub]).softmax(dim=1), z_w)
    memory_s.enqueue((logits_u * mask + logits_l * (1 - mask)).softmax(dim=1), z_s)
    label_s = torch.where(mask.bool(), labels[2], labels[3])
    contrast = plain_contrast(z_w, memory_s.prototypes(), torch.cat(labels[:2]))
    contrast = contrast + plain_contrast(z_s, memory_w.prototypes(), label_s)
    return mix / 2 + ramp * contrast / 2


def plain_ducisc(student, teacher, tau, volume_l, volume_u, label_l, weight):
    """The five undivided terms of a DuCiSC step after the warm-up, two classes, 2-D or 3-D. docs/METHODS.md section 4.

    tau (4, 2): the thresholds of this step. Returns supervised, consistency, fused and the two alignments.
    """
    nn = torch.nn.functional
    logits_l, feats_l = student(volume_l)
    logits_u, feats_u = student(volume_u)
    weight = weight.reshape(-1, *[1] * (volume_l.ndim - 1))
    with torch.no_grad():
        logits_t, _ = teacher(volume_u)
    logits_f, feats_f = student(weight * volume_l + (1 - weight) * volume_u)
    soft = weight * nn.one_hot(label_l, 2).movedim(-1, 1) + (1 - weight) * nn.one_hot(
        logits_t[-1].argmax(dim=1), 2
    ).movedim(-1, 1)
    terms = [[] for _ in range(5)]
    for scale in range(4):
        size = logits_l[scale].shape[2:]
        label = nn.interpolate(label_l[:, None].float(), size=size, mode="nearest")[:, 0].long()
        hard_l, prob_t = nn.one_hot(label, 2).movedim(-1, 1).float(), logits_t[scale].softmax(dim=1)
        pseudo = prob_t.argmax(dim=1)
        hard_u = nn.one_hot(pseudo, 2).movedim(-1, 1).float()
        certain = ((prob_t[:, 0] > tau[scale, 0]) | (prob_t[:, 1] > tau[scale, 1])).float()
        mixed = nn.interpolate(soft, size=size, mode={4: "bilinear", 5: "trilinear"}[soft.ndim])
        prob_l, prob_u, prob_f = (logits[scale].softmax(dim=1) for logits in (logits_l, logits_u, logits_f))
        terms[0].append((nn.cross_entropy(logits_l[scale], label) + plain_dice(prob_l, hard_l, None, True)) / 2)
        ce = nn.cross_entropy(logits_u[scale], pseudo, reduction="none")
        terms[1].append(((ce * certain).sum() / certain.sum() + plain_dice(prob_u, hard_u, certain, True)) / 2)
        kl = (torch.xlogy(mixed, mixed) - mixed * torch.log_softmax(logits_f[scale], dim=1)).sum(dim=1)
        kl = (kl * certain).sum() / (2 * certain.sum())
        terms[2].append((kl + plain_dice(prob_f, mixed, certain, True)) / 2)
        protos = []
        for feats, mask in ((feats_l, hard_l), (feats_u, hard_u), (feats_f, mixed)):
            feat = feats[3 - scale]
            regions = []
            for number in range(2):
                means = [
                    (feat[i] * mask[i, number]).flatten(1).sum(dim=1) / mask[i, number].sum() for i in range(len(feat))
                ]
                regions.append(torch.stack(means).mean(dim=0))
            protos.append(torch.stack(regions))
        terms[3].append((protos[0] - protos[1]).square().mean())
        terms[4].append((protos[0] - protos[2]).square().mean())
    kept = [torch.stack(values) for values in terms[:3]]
    kept += [torch.stack([value for value in values if not torch.isnan(value)]) for values in terms[3:]]
    return [values.mean() for values in kept]


@torch.no_grad()
def plain_ema(teacher, student, alpha: float) -> None:
    """Parameter by parameter."""
    for own, new in zip(teacher.parameters(), student.parameters()):
        own.data = alpha * own.data + (1 - alpha) * new.data
