"""The head measures as the catalogue names them: each a function of the shared HeadStatistics.

Those that are `deferred` in the catalogue leave a () tensor on the device.
"""

from __future__ import annotations

from torch import Tensor

from hpogen.measures.head import HeadStatistics


def agn(head: HeadStatistics) -> Tensor:
    return head.closed_forms.agn


def agn_rel(head: HeadStatistics) -> Tensor:
    return head.closed_forms.agn_relative


def agn_tic(head: HeadStatistics) -> Tensor:
    return head.closed_forms.tic


def gsnr(head: HeadStatistics) -> dict[str, float]:
    moments = head.moments
    return {
        "gsnr_head": moments.gsnr,
        "gsnr_head_median": moments.gsnr_median,
        "gsnr_head_ratio": moments.gsnr_ratio,
        "gsnr_head_debiased": moments.gsnr_debiased,
    }


def osgr(head: HeadStatistics) -> float:
    return head.osgr


def same_sign(head: HeadStatistics) -> float:
    return head.same_sign


def opposite_sign(head: HeadStatistics) -> dict[str, float]:
    return {
        "opposite_sign_head": head.opposite_sign,
        "opposite_sign_head_top10": head.opposite_sign_top10,
    }


def margin(head: HeadStatistics) -> dict[str, float]:
    low, middle, high = head.margins
    return {"margin_q10": low, "margin_q50": middle, "margin_q90": high}


def trace_hessian(head: HeadStatistics) -> Tensor:
    return head.closed_forms.trace_hessian


def brier(head: HeadStatistics) -> Tensor:
    return head.mean_brier
