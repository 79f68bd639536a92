"""The rows of the measures that are computed from the whole network; `catalog.py` collects them."""

from __future__ import annotations

from hpogen.plugins import Measure

FEATURES = ("lower", "q25", "q50", "q75", "upper")  # `network_margins.py`
GSNR = "GSNR paper"
JIANG = "Jiang et al. 2020, Fantastic Generalization Measures"


def _network(
    name: str,
    place: str,
    definition: str,
    cost: str,
    source: str,
    *metrics: str,
    needs: str = "",
    final: bool = False,
    initial: bool = False,
    total: bool = False,
) -> Measure:
    """One row; `place` is `module:attribute` in hpogen.measures, `needs` too."""
    given = metrics or (name,)
    return Measure(
        name,
        f"hpogen.measures.{place}",
        given,
        "network",
        sums=frozenset(given if total else ()),
        final=final,
        initial=initial,
        needs=f"hpogen.measures.{needs}" if needs else "",
        definition=definition,
        cost=cost,
        source=source,
    )


PER_SAMPLE = "network:require_per_sample"
ONE_BACKWARD = "one forward and backward over the subset, or over `samples` of it"

NETWORK: tuple[Measure, ...] = (
    _network(
        "gn",
        "network:gn",
        "Σ over epochs (every: iteration, over training steps) of mean_i ‖∇L(θ; x_i)‖²",
        f"{ONE_BACKWARD}; at every iteration, that many times the steps of an epoch",
        "gradient-norm paper, eq. 4",
        needs=PER_SAMPLE,
        total=True,
    ),
    _network(
        "gsnr",
        "network_moments:gsnr",
        "over all parameters: mean_j m_j²/ρ_j²; the median; Σm²/Σρ²; with m² − ρ²/N",
        ONE_BACKWARD,
        f"{GSNR}, eqs. 2 and 25",
        *("gsnr", "gsnr_median", "gsnr_ratio", "gsnr_debiased"),
        needs=PER_SAMPLE,
    ),
    _network(
        "osgr",
        "network_moments:osgr",
        "1 − (A − B)/(N·B) over all parameters, A = mean_i ‖g_i‖², B = ‖mean_i g_i‖²",
        ONE_BACKWARD,
        f"{GSNR}, eqs. 19 to 22",
        needs=PER_SAMPLE,
    ),
    _network(
        "same_sign",
        "network_moments:same_sign",
        "mean over all parameters of max(n₊, n₋)/(n₊ + n₋), zeros left out",
        ONE_BACKWARD,
        GSNR,
        needs=PER_SAMPLE,
    ),
    _network(
        "sharpness",
        "sharpness:sharpness",
        "L(θ + ρ ∇L/‖∇L‖) − L(θ), ρ = 0.05",
        "two forwards and one backward over the subset, or over `samples` of it",
        "Foret et al. 2021, eq. 2",
    ),
    _network(
        "sharpness_pacbayes",
        "sharpness:sharpness_pacbayes",
        "the largest σ of Gaussian noise on θ with an accuracy at most 0.1 lower",
        "at the end: 151 forwards",
        JIANG,
        final=True,
    ),
    _network(
        "jacobian_norm",
        "jacobian:jacobian_norm",
        "mean over samples and hidden layers of ‖∂z/∂h_l‖_F, exact",
        "one forward and a backward for each class",
        "gradient-norm paper, Table 3",
        needs="weighted:require_hidden",
    ),
    _network("param_norm", "complexity:param_norm", "‖θ‖₂", "none", JIANG),
    _network(
        "distance_init",
        "complexity:distance_init",
        "‖θ − θ₀‖₂, θ₀ the untrained weights",
        "none",
        "Nagarajan and Kolter 2019",
        initial=True,
    ),
    _network(
        "spectral",
        "spectral:spectral",
        "Σ_l ln ‖W_l‖₂², convolutions as operators on the inputs that they meet",
        "one sample, and about a hundred convolutions of one sample for each layer",
        JIANG,
        needs="weighted:require_weighted",
    ),
    _network(
        "path_norm",
        "complexity:path_norm",
        "√ Σ over paths of the product of squared weights, BatchNorm as a scale and shift",
        "three forwards of one sample",
        f"Neyshabur et al. 2015; {JIANG}",
        needs="complexity:require_relu_kind",
    ),
    _network(
        "vc_dim",
        "complexity:vc_dim",
        "W · L · log₂ W: W parameters, L linear layers and convolutions",
        "one sample",
        "Bartlett, Harvey, Liaw and Mehrabian 2019",
        needs="weighted:require_weighted",
    ),
    _network(
        "margin_input",
        "network_margins:margin_input",
        "quartiles and fences of (z_y − z_j)/‖∇_x(z_y − z_j)‖ / sqrt(Σ_k Var x_k)",
        ONE_BACKWARD,
        "Jiang et al. 2019",
        *(f"margin_input_{feature}" for feature in FEATURES),
        needs="weighted:require_weighted",
    ),
    _network(
        "margin_layers",
        "network_margins:margin_layers",
        "the same at the inputs of three hidden layers, evenly spaced",
        ONE_BACKWARD,
        "Jiang et al. 2019",
        *(f"margin_layers_{layer}_{feature}" for layer in (1, 2, 3) for feature in FEATURES),
        needs="weighted:require_hidden",
    ),
)
