"""The table of the built-in measures, a row each: `plugins.measures` reads it, without torch.

Last layer z = W h + b, p = softmax(z), d = p − q with q the target, g_i = d_i (h_i, 1)ᵀ,
s_i = ‖g_i‖²; m and ρ² are the mean and the variance of g_i over the N samples.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Literal

from hpogen.plugins import LAST_LINEAR, Measure

HERE = "hpogen.measures"
NORM = "gradient-norm paper"
EACH_EPOCH = f"{NORM}, eq. 5"
GSNR = "GSNR paper"
LIU = f"{GSNR} (Liu et al. 2020)"
JIANG = "Jiang et al. 2020, Fantastic Generalization Measures"
TSE = "Ru et al. 2021"
ONE_PASS = "one forward over the subset, for all of the last layer together"
ONE_BACKWARD = "one forward and backward over the subset, or over `samples` of it"
OBSERVED = "the clock: another run gives another number"
FREE = "none: it comes from the training step"
PER_SAMPLE = f"{HERE}.network:require_per_sample"
HIDDEN, WEIGHTED = f"{HERE}.weighted:require_hidden", f"{HERE}.weighted:require_weighted"
LAYERS = f"{HERE}.weighted:require_layers"
CLASSES = ("classes",)
TWO = ("classes", "binary")  # kinds of targets with a class for each sample
ENTROPY = (*TWO, "positions")  # trained by the cross-entropy
FEATURES = ("lower", "q25", "q50", "q75", "upper")  # `network_margins.py`

DECAY: Mapping[str, float] = {"tse_ema": 0.999}
"""What a running sum is multiplied by before an epoch's term is added; 1 where nothing is said."""


def _row(
    of: Literal["head", "network", "step"],
    name: str,
    place: str,
    definition: str,
    source: str,
    *metrics: str,
    cost: str,
    within: str = "",
    needs: str = "",
    total: bool = False,
    mean: bool = False,
    by_samples: tuple[str, ...] = (),
    kinds: Iterable[str] = (),
    loss: Literal["", "any", "entropy"] = "",
    reads: Literal["features", "moments", "forms"] = "features",
    **flags: bool,
) -> Measure:
    """`within` and `place` make `module:attribute`; `total` and `mean` are over the epochs."""
    given = metrics or (name,)
    return Measure(
        name,
        f"{HERE}.{within}{place}",
        given,
        of,
        sums=frozenset(given if total else ()),
        means=frozenset(given if mean else ()),
        by_samples=frozenset(by_samples),
        needs=needs,
        kinds=frozenset(kinds),
        loss=loss,
        reads=reads,
        definition=definition,
        cost=cost,
        source=source,
        **flags,
    )


_head = functools.partial(_row, "head", within="head_family:", cost=ONE_PASS)
_forms = functools.partial(_head, reads="forms")
_moments = functools.partial(_head, reads="moments")
_step = functools.partial(_row, "step", within="online:", cost=FREE, total=True)
_network = functools.partial(_row, "network")
_size = functools.partial(_network, cost="none")
_per_sample = functools.partial(_network, needs=PER_SAMPLE, cost=ONE_BACKWARD, loss="any")

HEAD: tuple[Measure, ...] = (
    _forms(
        "agn",
        "agn",
        "Σ over epochs of mean_i s_i, s_i = ‖p_i − q_i‖² (‖h_i‖² + 1) at the epoch's end",
        EACH_EPOCH,
        total=True,
    ),
    _forms("agn_mean", "agn", "agn / epochs: for comparing budgets", EACH_EPOCH, mean=True),
    _forms("agn_last", "agn", "mean_i s_i at the end of the last epoch", EACH_EPOCH),
    _forms("agn_rel", "agn_rel", "mean_i s_i / mean_i (‖h_i‖² + 1)", NORM),
    _forms(
        "agn_tic",
        "agn_tic",
        "mean_i s_i / tr H",
        "Thomas et al. 2020",
        kinds=ENTROPY,
        loss="entropy",
    ),
    _moments(
        "gsnr_head",
        "gsnr",
        "mean_j m_j²/ρ_j² over the last layer's parameters; its median; Σm²/Σρ²; debiased",
        f"{LIU}, eqs. 2 and 25",
        *("gsnr_head", "gsnr_head_median", "gsnr_head_ratio", "gsnr_head_debiased"),
        by_samples=("gsnr_head", "gsnr_head_median", "gsnr_head_ratio"),
    ),
    _moments(
        "osgr_head",
        "osgr",
        "1 − (mean_i ‖g_i‖² − ‖m‖²)/(N ‖m‖²)",
        f"{LIU}, eqs. 19 to 22",
        by_samples=("osgr_head",),
    ),
    _moments(
        "same_sign_head",
        "same_sign",
        "mean over parameters of the share of samples whose gradients agree in sign",
        f"{LIU}, p_same_sign",
        by_samples=("same_sign_head",),
    ),
    _moments(
        "opposite_sign_head",
        "opposite_sign",
        "share of weights whose sign is opposite to m's; the same of the largest tenth",
        f"{LIU}, Figure 6b",
        *("opposite_sign_head", "opposite_sign_head_top10"),
        by_samples=("opposite_sign_head", "opposite_sign_head_top10"),
    ),
    _head(
        "margin",
        "margin",
        "10, 50, 90 % points of min_{j≠y} (z_y − z_j)/‖W_y − W_j‖ / sqrt(Σ_k Var h_k)",
        "Jiang et al. 2019, last layer",
        *("margin_q10", "margin_q50", "margin_q90"),
        kinds=CLASSES,
    ),
    _forms(
        "trace_hessian",
        "trace_hessian",
        "tr H = mean_i (1 − ‖p_i‖²)(‖h_i‖² + 1)",
        "closed form",
        kinds=ENTROPY,
        loss="entropy",
    ),
    _forms("brier", "brier", "mean_i ‖p_i − q_i‖²", "Brier 1950", kinds=ENTROPY, loss="entropy"),
)

STEP: tuple[Measure, ...] = (
    _step(
        "agn_online",
        "agn_online",
        "Σ over epochs of the mean over mini-batches of mean_i s_i, while training",
        EACH_EPOCH,
        needs=LAST_LINEAR,
    ),
    _step(
        "agn_lr",
        "agn_lr",
        "Σ over steps t of γ_t/(1 − μ) · mean_i s_i",
        f"a reading of the {NORM}'s eq. 3",
        needs=LAST_LINEAR,
        per_step=True,
    ),
    _step("tse", "training_loss", "Σ over epochs of the mean training loss of its steps", TSE),
    _step("tse_ema", "training_loss", "the same; each epoch weighs 0.999 of the next", TSE),
    _step("tse_last", "training_loss", "the same of the last epoch alone", TSE, total=False),
    _step(
        "seconds_per_epoch",
        "seconds_per_epoch",
        "seconds of training per epoch so far, without evaluation and measures",
        OBSERVED,
        total=False,
        observed=True,
    ),
)

NETWORK: tuple[Measure, ...] = (
    _per_sample(
        "gn",
        "network:gn",
        "Σ over epochs (every: iteration, over training steps) of mean_i ‖∇L(θ; x_i)‖²",
        f"{NORM}, eq. 4",
        total=True,
        cost=f"{ONE_BACKWARD}; at every iteration, that many times the steps of an epoch",
    ),
    _per_sample(
        "gsnr",
        "network_moments:gsnr",
        "over all parameters: mean_j m_j²/ρ_j²; the median; Σm²/Σρ²; with m² − ρ²/N",
        f"{GSNR}, eqs. 2 and 25",
        *("gsnr", "gsnr_median", "gsnr_ratio", "gsnr_debiased"),
        by_samples=("gsnr", "gsnr_median", "gsnr_ratio"),
    ),
    _per_sample(
        "osgr",
        "network_moments:osgr",
        "1 − (A − B)/(N·B) over all parameters, A = mean_i ‖g_i‖², B = ‖mean_i g_i‖²",
        f"{GSNR}, eqs. 19 to 22",
        by_samples=("osgr",),
    ),
    _per_sample(
        "same_sign",
        "network_moments:same_sign",
        "mean over all parameters of max(n₊, n₋)/(n₊ + n₋), zeros left out",
        GSNR,
        by_samples=("same_sign",),
    ),
    _network(
        "sharpness",
        "sharpness:sharpness",
        "L(θ + ρ ∇L/‖∇L‖) − L(θ), ρ = 0.05",
        "Foret et al. 2021, eq. 2",
        cost="two forwards and one backward over the subset, or over `samples` of it",
        loss="any",
    ),
    _network(
        "sharpness_pacbayes",
        "sharpness:sharpness_pacbayes",
        "the largest σ of Gaussian noise on θ with an accuracy at most 0.1 lower",
        JIANG,
        final=True,
        kinds=TWO,
        cost="at the end: 151 forwards",
    ),
    _network(
        "jacobian_norm",
        "jacobian:jacobian_norm",
        "mean over samples and hidden layers of ‖∂z/∂h_l‖_F, exact",
        f"{NORM}, Table 3",
        needs=HIDDEN,
        cost="one forward and a backward for each class",
    ),
    _size("parameters", "complexity:parameters", "the number of trainable parameters", "its size"),
    _network(
        "macs",
        "cost:macs",
        "multiply-accumulates of one forward of one sample: of matrix products, convolutions and "
        "attention, and of nothing else",
        "torch's FlopCounterMode, FLOPs / 2",
        needs=f"{HERE}.cost:require_countable",
        cost="one forward of one sample on the meta device, which computes nothing",
    ),
    _network(
        "latency",
        "cost:latency",
        "seconds of one forward of one sample on the trial's device, the median of repeats",
        OBSERVED,
        final=True,
        observed=True,
        cost="at the end: 33 forwards of one sample, or 2 seconds",
    ),
    _size("param_norm", "complexity:param_norm", "‖θ‖₂", JIANG),
    _size(
        "distance_init",
        "complexity:distance_init",
        "‖θ − θ₀‖₂, θ₀ the untrained weights",
        "Nagarajan and Kolter 2019",
        initial=True,
    ),
    _network(
        "spectral",
        "spectral:spectral",
        "Σ_l ln ‖W_l‖₂², convolutions as operators on the inputs that they meet",
        JIANG,
        needs=LAYERS,
        cost="one sample, and about a hundred convolutions of one sample for each layer",
    ),
    _network(
        "path_norm",
        "complexity:path_norm",
        "√ Σ over paths of the product of squared weights, BatchNorm as a scale and shift",
        f"Neyshabur et al. 2015; {JIANG}",
        needs=f"{HERE}.complexity:require_relu_kind",
        cost="three forwards of one sample",
    ),
    _network(
        "vc_dim",
        "complexity:vc_dim",
        "W · L · log₂ W: W parameters, L linear layers and convolutions",
        "Bartlett, Harvey, Liaw and Mehrabian 2019",
        needs=LAYERS,
        cost="one sample",
    ),
    _network(
        "margin_input",
        "network_margins:margin_input",
        "quartiles and fences of (z_y − z_j)/‖∇_x(z_y − z_j)‖ / sqrt(Σ_k Var x_k)",
        "Jiang et al. 2019",
        *(f"margin_input_{feature}" for feature in FEATURES),
        needs=WEIGHTED,
        kinds=CLASSES,
        cost=ONE_BACKWARD,
    ),
    _network(
        "margin_layers",
        "network_margins:margin_layers",
        "the same at the inputs of three hidden layers, evenly spaced",
        "Jiang et al. 2019",
        *(f"margin_layers_{layer}_{feature}" for layer in (1, 2, 3) for feature in FEATURES),
        needs=HIDDEN,
        kinds=CLASSES,
        cost=ONE_BACKWARD,
    ),
    _network(
        "zeta",
        "ablation:zeta_and_kappa",
        "mean over classes of (n0 + M − n0r)/2M, removing the M units of a layer by activity; "
        "Σ|E_r − E|/M; that over E(0)",
        "sparsity paper, eq. 2 to 6",
        *("zeta", "kappa", "kappa_fit"),
        needs=f"{HERE}.ablation_layer:require_ablation_layer",
        kinds=CLASSES,
        final=True,
        cost=(
            "at the end: one pass and partial sums; up to 66 tail passes where units do not reach "
            "the last layer by averaging"
        ),
    ),
)

MEASURES: Mapping[str, Measure] = {row.name: row for row in (*HEAD, *STEP, *NETWORK)}
