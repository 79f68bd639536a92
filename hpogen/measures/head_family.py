"""The head measures as the catalogue names them: each a function of the shared HeadStatistics.

Of sequences it is a SequenceHead, which has what they read under the same names.
Those that read the closed `forms` alone leave a () tensor on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from hpogen.measures.head import HeadStatistics


def _property(name: str) -> Callable[[HeadStatistics], Any]:
    """The measure that is a property of the HeadStatistics, or of what is one."""
    read = attrgetter(name)
    return lambda head: read(head)


agn = _property("closed_forms.agn")
agn_rel = _property("closed_forms.agn_relative")
agn_tic = _property("closed_forms.tic")
trace_hessian = _property("closed_forms.trace_hessian")
brier = _property("mean_brier")
osgr = _property("moments.osgr")
same_sign = _property("moments.same_sign")


def gsnr(head: HeadStatistics) -> dict[str, float]:
    return head.moments.gsnr_family("gsnr_head")


def opposite_sign(head: HeadStatistics) -> dict[str, float]:
    return {
        "opposite_sign_head": head.opposite_sign,
        "opposite_sign_head_top10": head.opposite_sign_top10,
    }


def margin(head: HeadStatistics) -> dict[str, float]:
    low, middle, high = head.margins
    return {"margin_q10": low, "margin_q50": middle, "margin_q90": high}
