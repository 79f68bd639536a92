"""The rows of the measures of the last layer and of the training step; `catalog.py` collects them.

Last layer z = W h + b, p = softmax(z), d = p − q with q the target, g_i = d_i (h_i, 1)ᵀ,
s_i = ‖g_i‖²; m and ρ² are the mean and the variance of g_i over the N samples.
"""

from __future__ import annotations

from hpogen.plugins import LAST_LINEAR, Measure

NORM = "gradient-norm paper"
GSNR = "GSNR paper (Liu et al. 2020)"
ONE_PASS = "one forward over the subset, for all of the last layer together"
FREE = "none: it comes from the training step"


def _head(
    name: str,
    function: str,
    definition: str,
    source: str,
    *metrics: str,
    sums: frozenset[str] = frozenset(),
    means: frozenset[str] = frozenset(),
    deferred: bool = False,
) -> Measure:
    return Measure(
        name,
        f"hpogen.measures.head_family:{function}",
        metrics or (name,),
        "head",
        sums,
        means,
        deferred=deferred,
        definition=definition,
        cost=ONE_PASS,
        source=source,
    )


def _step(
    name: str, function: str, definition: str, source: str, needs: str = "", total: bool = True
) -> Measure:
    return Measure(
        name,
        f"hpogen.measures.online:{function}",
        (name,),
        "step",
        sums=frozenset({name} if total else ()),
        needs=needs,
        definition=definition,
        cost=FREE,
        source=source,
    )


AGN = frozenset({"agn"})
AGN_MEAN = frozenset({"agn_mean"})
EACH_EPOCH = f"{NORM}, eq. 5"

HEAD: tuple[Measure, ...] = (
    _head(
        "agn",
        "agn",
        "Σ over epochs of mean_i s_i, s_i = ‖p_i − q_i‖² (‖h_i‖² + 1) at the epoch's end",
        EACH_EPOCH,
        sums=AGN,
        deferred=True,
    ),
    _head(
        "agn_mean",
        "agn",
        "agn / epochs: for comparing budgets",
        EACH_EPOCH,
        means=AGN_MEAN,
        deferred=True,
    ),
    _head("agn_last", "agn", "mean_i s_i at the end of the last epoch", EACH_EPOCH, deferred=True),
    _head("agn_rel", "agn_rel", "mean_i s_i / mean_i (‖h_i‖² + 1)", NORM, deferred=True),
    _head("agn_tic", "agn_tic", "mean_i s_i / tr H", "Thomas et al. 2020", deferred=True),
    _head(
        "gsnr_head",
        "gsnr",
        "mean_j m_j²/ρ_j² over the last layer's parameters; its median; Σm²/Σρ²; debiased",
        f"{GSNR}, eqs. 2 and 25",
        *("gsnr_head", "gsnr_head_median", "gsnr_head_ratio", "gsnr_head_debiased"),
    ),
    _head("osgr_head", "osgr", "1 − (mean_i ‖g_i‖² − ‖m‖²)/(N ‖m‖²)", f"{GSNR}, eqs. 19 to 22"),
    _head(
        "same_sign_head",
        "same_sign",
        "mean over parameters of the share of samples whose gradients agree in sign",
        f"{GSNR}, p_same_sign",
    ),
    _head(
        "opposite_sign_head",
        "opposite_sign",
        "share of weights whose sign is opposite to m's; the same of the largest tenth",
        f"{GSNR}, Figure 6b",
        *("opposite_sign_head", "opposite_sign_head_top10"),
    ),
    _head(
        "margin",
        "margin",
        "10, 50, 90 % points of min_{j≠y} (z_y − z_j)/‖W_y − W_j‖ / sqrt(Σ_k Var h_k)",
        "Jiang et al. 2019, last layer",
        *("margin_q10", "margin_q50", "margin_q90"),
    ),
    _head(
        "trace_hessian",
        "trace_hessian",
        "tr H = mean_i (1 − ‖p_i‖²)(‖h_i‖² + 1)",
        "closed form",
        deferred=True,
    ),
    _head("brier", "brier", "mean_i ‖p_i − q_i‖²", "Brier 1950", deferred=True),
)

TSE = "Ru et al. 2021"
STEP: tuple[Measure, ...] = (
    _step(
        "agn_online",
        "agn_online",
        "Σ over epochs of the mean over mini-batches of mean_i s_i, while training",
        EACH_EPOCH,
        LAST_LINEAR,
    ),
    _step(
        "agn_lr",
        "agn_lr",
        "Σ over steps t of γ_t/(1 − μ) · mean_i s_i",
        f"a reading of the {NORM}'s eq. 3",
        LAST_LINEAR,
    ),
    _step("tse", "training_loss", "Σ over epochs of the mean training loss of its steps", TSE),
    _step("tse_ema", "training_loss", "the same; each epoch weighs 0.999 of the next", TSE),
    _step("tse_last", "training_loss", "the same of the last epoch alone", TSE, total=False),
)
