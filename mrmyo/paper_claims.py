"""What the paper's printed numbers claim, for the audit: each number is taken from `printed_figures` by its id."""

from __future__ import annotations

from mrmyo.paper import printed_figures
from mrmyo.paper_audit import audit, common_n

__all__ = ["EXPECTED", "audit_paper", "enzyme_n", "printed_claims"]

ENZYMES = {"CK": "N154", "ALT": "N162", "AST": "N170", "LDH": "N178"}
N_ILD = {"ILD": 31, "no ILD": 33, "ASS": 8, "non-ASS with a score": 53}

# what cannot hold as it is printed, and what would reconcile it; everything else is consistent
EXPECTED = {
    "T2 with CK": "62 patients with an enzyme value, not 64",
    "T2 with ALT": "62 patients with an enzyme value, not 64",
    "T2 with AST": "62 patients with an enzyme value, not 64",
    "T2 with LDH": "62 patients with an enzyme value, not 64",
    "dermatomyositis, definite and probable": "one patient with dermatomyositis was left unclassified",
    "acquisition time of the T2 map": "nothing: one of the two is wrong",
    "acceleration of the T2 map": "nothing: one of the two is wrong",
    "T2 of the patient of Fig. 3": "41.0 ms in the whole thigh, 44.9 ms in the lesion",
    "T2 with the ILD score, and T2 by ILD": "a correlation of −0.226, or T2 in two heaps",
    "grades of the extent of ILD": "more than none and less than 10 % as grade 1, the lower end of each grade in it",
}


def printed_claims() -> list[dict]:
    """The claims of the paper, in the form that `mrmyo.paper_audit.audit` takes."""
    figures = printed_figures().set_index("id")
    text, unit = figures["text"].to_dict(), figures["unit"].to_dict()

    def r_and_p(r, p, n=64):
        return {"kind": "correlation", "r": text[r], "p": text[p], **({} if n is None else {"n": n})}

    def following(identity):
        return f"N{int(identity[1:]) + 1:03d}"

    claims = {
        "T2 with age": r_and_p("N140", "N141"),
        "T2 with disease duration": r_and_p("N146", "N147"),
        **{f"T2 with {name}": r_and_p(first, following(first)) for name, first in ENZYMES.items()},
        # printed with three decimals, which the table of numbers does not keep
        "T2 with the ILD score": {"kind": "correlation", "r": text["N126"], "p": f"{float(text['N018']):.3f}"},
        "T2 with the ILD score, and T2 by ILD": {"kind": "direction", "r": text["N126"], "more": text["N129"],
                                                 "less": text["N127"]},
        "ILD scores by ILD and by ASS": {"kind": "same total", "left": [(31, text["N124"])],
                                         "right": [(8, text["N132"]), (None, text["N133"])]},
        "ILD score by ASS": {"kind": "z and p", "z": text["N134"], "p": text["N017"]},
        "T2 by ASS": {"kind": "mann-whitney", "n_1": 8, "n_2": 56, "z": text["N135"], "p": "0.440"},
        "T2 by ILD": {"kind": "mann-whitney", "n_1": 33, "n_2": 31, "p": text["N131"]},
        "T2 by ILD, and T2 of all": {
            "kind": "combined", "groups": [(33, text["N127"], text["N128"]), (31, text["N129"], text["N130"])],
            "mean": text["N101"], "sd": text["N102"]},
        "AUC": {"kind": "auc", "auc": text["N106"], "n_1": 64, "n_2": 10},
        "AUC, printed twice": {"kind": "same", "values": [text["N106"], text["N107"]]},
        "T2 of patients and controls": {"kind": "mann-whitney", "n_1": 64, "n_2": 10, "p": text["N105"]},
        "sensitivity": {"kind": "percentage", "percent": text["N008"], "count": 62, "n": 64},
        "specificity": {"kind": "percentage", "percent": text["N009"], "count": 10, "n": 10},
        "controls below the cutoff": {"kind": "below", "n": 10, "mean": text["N103"], "sd": text["N104"],
                                      "limit": text["N007"]},
        "cutoff, printed three times": {"kind": "same", "values": [text["N007"], text["N010"], text["N013"]]},
        "normal CK with a T2 above the cutoff": {"kind": "percentage", "percent": text["N114"], "count": text["N112"],
                                                 "n": text["N113"]},
        "patients with ILD": {"kind": "percentage", "percent": text["N122"], "count": text["N121"], "n": 64},
        "subtypes": {"kind": "sum", "parts": [text["N002"], text["N003"], text["N004"]], "total": text["N001"]},
        "dermatomyositis, definite and probable": {"kind": "sum", "parts": [text["N079"], text["N080"]],
                                                   "total": text["N078"]},
        "polymyositis, definite and probable": {"kind": "sum", "parts": [text["N082"], text["N083"]],
                                                "total": text["N081"]},
        "men and women": {"kind": "sum", "parts": [text["N085"], text["N086"]], "total": text["N073"]},
        "sex ratio": {"kind": "ratio", "parts": [text["N085"], text["N086"]], "ratio": text["N087"].split(":")[1]},
        "men and women among controls": {"kind": "sum", "parts": [text["N096"], text["N097"]], "total": text["N074"]},
        "patients and controls": {"kind": "sum", "parts": [text["N073"], text["N074"]], "total": text["N072"]},
        "untreated and relapsed": {"kind": "sum", "parts": [text["N094"], text["N095"]], "total": text["N073"]},
        "age of patients": {"kind": "mean of whole numbers", "mean": text["N088"], "n": 64},
        "age of controls": {"kind": "mean of whole numbers", "mean": text["N098"], "n": 10},
        "disease duration": {"kind": "mean of whole numbers", "mean": text["N091"], "n": 64},
        "acquisition time of the T2 map": {"kind": "same", "values": [text["N063"], text["N067"]]},
        "acceleration of the T2 map": {"kind": "same", "values": [text["N062"], text["N066"]]},
        "acceleration by its parts": {"kind": "product", "parts": [text["N064"], text["N065"]], "total": text["N066"]},
        "T2 of the patient of Fig. 3": {"kind": "same", "values": [text["N116"], text["N117"]]},
        "grades of the extent of ILD": {"kind": "cover", "low": 0, "high": 100, "ranges": [
            [0, 0], *([float(part) for part in unit[row].replace("%", "").split(" to ")]
                      for row in ("N032", "N033", "N034", "N035"))]},
    }
    return [{"claim": name, **claim} for name, claim in claims.items()]


def audit_paper():
    """The audit of the paper, with ``expected`` (what would reconcile a claim that cannot hold; empty for the others).

    Returns
    -------
    pandas.DataFrame
    """
    table = audit(printed_claims())
    return table.assign(expected=table.claim.map(EXPECTED).fillna(""))


def enzyme_n() -> list[int]:
    """Every n at which all four enzyme correlations have the p that is printed with them."""
    names = {f"T2 with {name}" for name in ENZYMES}
    return common_n(claim for claim in printed_claims() if claim["claim"] in names)
