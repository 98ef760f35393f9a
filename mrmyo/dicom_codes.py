"""The standard codes of what mrmyo labels and measures, for DICOM objects that other systems read.

SNOMED CT (SCT) where DICOM's own context groups have the concept; the single muscles are in none of them and have the
codes of the Foundational Model of Anatomy (FMA), which DICOM PS3.16 lists among its coding schemes.
"""

from __future__ import annotations

from mrmyo.labels import label_table

__all__ = ["LATERALITY", "code_of", "concept", "label_of"]

# by abbreviation, as in BodyParts3D (Database Center for Life Science), which took them over from the FMA
FMA = {"VL": ("22431", "Vastus lateralis"), "VM": ("22432", "Vastus medialis"), "VI": ("22433", "Vastus intermedius"),
       "RF": ("22430", "Rectus femoris"), "SAR": ("22353", "Sartorius"), "GRA": ("43882", "Gracilis"),
       "AM": ("22443", "Adductor magnus"), "AL": ("22441", "Adductor longus"), "SM": ("22438", "Semimembranosus"),
       "ST": ("22357", "Semitendinosus"), "BFL": ("45887", "Long head of biceps femoris"),
       "BFS": ("45890", "Short head of biceps femoris")}
# from context groups 100, 244, 7021, 7150, 7151, 7180 and 7464; what they lack has a private scheme (99…)
CONCEPTS = {"structure": ("91723000", "SCT", "Anatomical Structure"),
            "muscle": ("102292000", "SCT", "Muscle of lower limb"), "femur": ("71341001", "SCT", "Femur"),
            "thigh": ("68367000", "SCT", "Thigh"), "left": ("7771000", "SCT", "Left"),
            "right": ("24028007", "SCT", "Right"), "both": ("51440002", "SCT", "Right and left"),
            "mean": ("373098007", "SCT", "Mean"), "sd": ("386136009", "SCT", "Standard Deviation"),
            "median": ("373099004", "SCT", "Median"),
            "volume": ("118565006", "SCT", "Volume"), "ms": ("ms", "UCUM", "ms"), "ml": ("ml", "UCUM", "ml"),
            "share": ("1", "UCUM", "no units"), "t2": ("113065", "DCM", "T2"),
            "fat_fraction": ("129100", "DCM", "Fat fraction"),
            "water_t2": ("water-t2", "99MRMYO", "T2 of water, corrected for stimulated echoes and fat"),
            "mean_sd": ("mean-sd", "99MRMYO", "Standard deviation of the mean from noise"),
            "n_voxels": ("n-voxels", "99MRMYO", "Number of voxels measured"),
            "procedure": ("25056-3", "LN", "MRI unspecified body region"),
            "report": ("126000", "DCM", "Imaging Measurement Report")}
LATERALITY = ("left", "right", "both")


def concept(name: str):
    """A concept by mrmyo's word for it, as a highdicom ``CodedConcept``."""
    from highdicom.sr import CodedConcept

    return CodedConcept(*CONCEPTS[name])


def code_of(value: int):
    """What a label value means: its SCT type ("muscle" or "femur"), its FMA concept or None, and its side.

    Returns
    -------
    tuple of (str, highdicom.sr.CodedConcept or None, str)
    """
    from highdicom.sr import CodedConcept

    row = label_table().set_index("value").loc[value]
    known = FMA.get(row.abbreviation)
    single = CodedConcept(f"FMA{known[0]}", "FMA", known[1]) if known else None
    return ("muscle" if row.is_muscle else "femur"), single, row.side


def label_of(name: str) -> int:
    """The value of a segment by its label, "left vastus lateralis".

    Raises
    ------
    KeyError
        When no label has that name.
    """
    table = label_table()
    return int(table.set_index(table.side + " " + table.name).value[name])
