"""Signals against spins followed one by one, and against what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mrmyo.epg import SliceProfile, epg_signal, lookup, mono_signal, signal_table, slice_profile

TRAIN = {"echo_spacing_ms": 10.0, "n_echoes": 10}
ECHO_TIMES = np.arange(1, 11) * 10.0


def turn(axis, angle):
    """Rotation matrices (..., 3, 3) about an axis (..., 3), by Rodrigues' formula."""
    angle = np.asarray(angle, dtype=float)[..., None, None]
    x, y, z = np.moveaxis(np.broadcast_to(axis, (*angle.shape[:-2], 3)), -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def spins(excite, refocus, t2_ms, t1_ms, echo_spacing_ms, n_echoes, n_spins=96):
    """Echoes of spins that a crusher spreads evenly over a full turn in each half spacing; pulses are 3 x 3 matrices.

    Excitation about x leaves the magnetisation along -y, refocusing is about y: the CPMG condition.
    """
    crush = turn([0.0, 0.0, 1.0], 2 * np.pi * (np.arange(n_spins) + 0.5) / n_spins)
    e2, e1 = np.exp(-echo_spacing_ms / 2 / t2_ms), np.exp(-echo_spacing_ms / 2 / t1_ms)

    def wait(m):
        m = np.einsum("sij,sj->si", crush, m) * [e2, e2, e1]
        return m + np.array([0, 0, 1 - e1])

    m = np.tile(excite @ [0.0, 0.0, 1.0], (n_spins, 1))
    echoes = []
    for _ in range(n_echoes):
        m = wait(wait(m) @ refocus.T)
        echoes.append(-m[:, 1].mean())
    return np.array(echoes)


def pulses(excitation_deg, refocusing_deg):
    return turn([1.0, 0.0, 0.0], np.deg2rad(excitation_deg)), turn([0.0, 1.0, 0.0], np.deg2rad(refocusing_deg))


@pytest.mark.parametrize(("t2_ms", "t1_ms", "b1"), [(34, 1400, 1.0), (34, 1400, 0.7), (60, 300, 1.25), (20, 80, 0.5)])
def test_epg_is_what_spins_do(t2_ms, t1_ms, b1):
    expected = spins(*pulses(90 * b1, 180 * b1), t2_ms, t1_ms, 10.0, 10)
    assert epg_signal(t2_ms, t1_ms=t1_ms, b1=b1, **TRAIN) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_epg_is_what_spins_do_at_other_flip_angles():
    expected = spins(*pulses(70, 120), 34, 1400, 7.7, 17)
    found = epg_signal(34, t1_ms=1400, echo_spacing_ms=7.7, n_echoes=17, excitation_deg=70, refocusing_deg=120)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("b1", [0.7, 1.0, 1.2])
def test_profile_sums_spins_over_the_slice(b1):
    profile = slice_profile()
    flips = profile.flips_deg(b1)
    expected = sum(
        w * spins(*pulses(e, r), 34, 1400, 10.0, 10) for w, (e, r) in zip(profile.weights, flips, strict=True)
    )
    assert epg_signal(34, t1_ms=1400, b1=b1, profile=profile, **TRAIN) == pytest.approx(expected, rel=1e-9)


def shaped_pulse(axis, flip_deg, positions, time_bandwidth, n_steps=400):
    """Rotation matrices of a Hann-windowed sinc pulse under a slice gradient, small step by small step."""
    time = np.linspace(-0.5, 0.5, n_steps)
    shape = np.where(time == 0, 1, np.sin(np.pi * time_bandwidth * time) / (np.pi * time_bandwidth * time))
    shape = shape * (0.5 + 0.5 * np.cos(2 * np.pi * time))
    total = np.broadcast_to(np.eye(3), (len(positions), 3, 3))
    for share in shape / shape.sum():
        field = np.deg2rad(flip_deg) * share * np.array(axis) + np.multiply.outer(
            2 * np.pi * time_bandwidth * positions / n_steps, [0.0, 0.0, 1.0]
        )
        strength = np.linalg.norm(field, axis=1)
        total = turn(field / strength[:, None], strength) @ total
    return total


@pytest.mark.parametrize("b1", [0.6, 0.8, 1.0, 1.2, 1.4])
def test_slice_profile_is_what_shaped_pulses_do(b1):
    """Nothing of the model's is used here: pulses are played out in time at 60 places of the slice."""
    nodes, shares = np.polynomial.legendre.leggauss(60)
    positions = 0.5 * (nodes + 1)
    rephase = turn([0.0, 0.0, 1.0], -np.pi * 4 * positions)

    def train(b1):
        excite = rephase @ shaped_pulse([1.0, 0.0, 0.0], 90 * b1, positions, 4)
        refocus = shaped_pulse([0.0, 1.0, 0.0], 180 * b1, positions / 1.2, 4)
        return excite, sum(
            w * spins(e, r, 34, 1400, 10.0, 8, n_spins=32) for w, e, r in zip(shares, excite, refocus, strict=True)
        )

    nominal_excite = rephase @ shaped_pulse([1.0, 0.0, 0.0], 90, positions, 4)
    expected = train(b1)[1] / (shares @ -nominal_excite[:, 1, 2])
    found = epg_signal(34, t1_ms=1400, b1=b1, echo_spacing_ms=10, n_echoes=8, profile=slice_profile())
    assert np.abs(found - expected).max() < 1e-3 * expected[0]


def test_perfect_pulses_leave_one_exponential():
    t2 = np.array([5.0, 34, 400])
    expected = mono_signal(ECHO_TIMES, t2)
    assert epg_signal(t2, t1_ms=1400, **TRAIN) == pytest.approx(expected, rel=1e-12)
    assert expected[1] == pytest.approx(np.exp(-ECHO_TIMES / 34))


def test_mono_signal_broadcasts_and_scales():
    found = mono_signal(ECHO_TIMES, [[30.0], [40.0]], s0=[1.0, 2.0, 3.0])
    assert found.shape == (2, 3, 10)
    assert found[1, 2, 4] == pytest.approx(3 * np.exp(-50 / 40))


def test_first_two_echoes_by_hand():
    """Echo 1 loses cos² of half the flip; echo 2 is a spin echo and a stimulated echo, each with its own relaxation."""
    flip, e2, e1 = np.deg2rad(140), np.exp(-10 / 34), np.exp(-10 / 1400)
    found = epg_signal(34, t1_ms=1400, echo_spacing_ms=10, n_echoes=2, refocusing_deg=140)
    first = np.sin(flip / 2) ** 2 * e2
    second = e2 * e2 * np.sin(flip / 2) ** 4 + 0.5 * np.sin(flip) ** 2 * e1 * e2
    assert found == pytest.approx([first, second], rel=1e-12)


def test_longer_train_has_the_same_first_echoes():
    long = epg_signal(50, t1_ms=1400, b1=0.8, echo_spacing_ms=10, n_echoes=20)
    for n in (1, 2, 3, 9):
        assert epg_signal(50, t1_ms=1400, b1=0.8, echo_spacing_ms=10, n_echoes=n) == pytest.approx(long[:n], rel=1e-12)


def test_voxels_do_not_touch_each_other():
    t2, b1 = np.array([[30.0, np.nan], [40.0, 50.0]]), np.array([0.8, 1.1])
    found = epg_signal(t2, t1_ms=1400, b1=b1, profile=slice_profile(), **TRAIN)
    assert found.shape == (2, 2, 10)
    assert np.isnan(found[0, 1]).all() and np.isfinite(found).sum() == 30
    assert found[1, 0] == pytest.approx(epg_signal(40, t1_ms=1400, b1=0.8, profile=slice_profile(), **TRAIN))


def test_slice_profile_on_resonance_and_outside():
    """In the middle the pulse gives its nominal flip; one thickness out almost none; nominal signal is kept."""
    profile = slice_profile(n_positions=41)
    excitation, refocusing = profile.flips_deg(1.0)[0]
    assert excitation == pytest.approx(90, abs=0.1) and refocusing == pytest.approx(180, abs=1.0)
    assert abs(profile.flips_deg(1.0)[-1][0]) < 2
    flips = np.array([e for e, _ in profile.flips_deg(1.0)])
    assert np.dot(profile.weights, np.sin(np.deg2rad(flips))) == pytest.approx(1, rel=1e-4)


def test_fifteen_positions_are_enough():
    fine, b1 = slice_profile(n_positions=60), np.linspace(0.5, 1.4, 25)
    expected = epg_signal(34, t1_ms=1400, b1=b1, profile=fine, **TRAIN)
    found = epg_signal(34, t1_ms=1400, b1=b1, profile=slice_profile(), **TRAIN)
    assert (np.abs(found - expected).max(axis=1) < 2e-4 * expected[:, 0]).all()


def test_profile_with_one_b1_scales():
    profile = SliceProfile((0.0,), (1.0,), (1.0,), ((90.0,),), ((180.0,),))
    found = epg_signal(34, t1_ms=1400, b1=0.8, profile=profile, **TRAIN)
    assert found == pytest.approx(epg_signal(34, t1_ms=1400, b1=0.8, **TRAIN), rel=1e-12)


def test_lookup_is_within_a_thousandth_of_the_first_echo():
    rng = np.random.default_rng(1)
    t2_grid, b1_grid, profile = np.linspace(20, 139, 120), np.linspace(0.6, 1.38, 40), slice_profile()
    table = signal_table(t2_grid, b1_grid, t1_ms=1400, profile=profile, **TRAIN)
    t2, b1 = rng.uniform(20, 139, 5000), rng.uniform(0.6, 1.38, 5000)
    expected = epg_signal(t2, t1_ms=1400, b1=b1, profile=profile, **TRAIN)
    found = lookup(table, t2_grid, b1_grid, t2, b1)
    assert table.shape == (120, 40, 10) and table.dtype == found.dtype == np.float32
    assert (np.abs(found - expected) < 1e-3 * expected[:, :1]).all()


def test_lookup_returns_the_table_at_its_nodes_and_nan_for_nan():
    t2_grid, b1_grid = np.linspace(20, 60, 5), np.linspace(0.8, 1.2, 3)
    table = signal_table(t2_grid, b1_grid, t1_ms=np.linspace(900, 1500, 5), **TRAIN)
    found = lookup(table, t2_grid, b1_grid, t2_grid[:, None], b1_grid)
    assert np.abs(found - table).max() < 1e-6
    assert table[3, 1] == pytest.approx(epg_signal(50, t1_ms=1350, b1=1.0, **TRAIN), rel=1e-6)
    mixed = lookup(table, t2_grid, b1_grid, [np.nan, 30.0, 60.0], [1.0, np.nan, 1.2])
    assert np.isnan(mixed[:2]).all() and mixed[2] == pytest.approx(table[-1, -1], rel=1e-6)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: epg_signal(0.0, t1_ms=1400, **TRAIN), "above 0"),
    (lambda: epg_signal(30.0, t1_ms=-1, **TRAIN), "t1_ms"),
    (lambda: epg_signal(30.0, t1_ms=1400, echo_spacing_ms=10, n_echoes=0), "at least 1"),
    (lambda: epg_signal(30.0, t1_ms=1400, b1=2.0, profile=slice_profile(), **TRAIN), "the profile covers"),
    (lambda: signal_table([20, 30], [1, 1.1], t1_ms=[1, 2, 3], **TRAIN), "one per T2"),
    (lambda: lookup(np.ones((2, 2, 3)), [20, 30], [1, 1.1], 35.0, 1.0), "widen the grid"),
    (lambda: lookup(np.ones((3, 2, 3)), [20, 30, 50], [1, 1.1], 25.0, 1.0), "evenly spaced"),
    (lambda: SliceProfile((0.0, 0.1), (1.0,), (1.0,), ((90.0,),), ((180.0,),)), "for each B1 and position"),
])
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
