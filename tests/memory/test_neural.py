from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import StoreError
from memory.read.neural import NeuralQ, features
from memory.search.embed import F32, FingerprintMismatch, HashingEmbedder, unit_rows

DIM, HIDDEN = 8, 5
SPACE = HashingEmbedder(dim=DIM).fingerprint


def rows(n: int, seed: int, dim: int = DIM) -> F32:
    return unit_rows(np.random.default_rng(seed).normal(size=(n, dim)))


def model(seed: int = 0, scale: float = 1.0) -> NeuralQ:
    rng = np.random.default_rng(seed)
    shapes = {"w1": (4 * DIM, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN,), "b2": ()}
    weights = {k: (scale * rng.normal(size=s)).astype(np.float32) for k, s in shapes.items()}
    return NeuralQ(SPACE, **weights, notes={"seed": seed, "auc": 0.5})


def test_features_by_hand() -> None:
    """dim 4: the entries of both rows are scaled by 2, their products by 4."""
    query, case = np.array([[0.5, -0.5, 0.5, 0.5]]), np.array([[1.0, 0.0, 0.0, 0.0]])
    expected = [1, -1, 1, 1, 2, 0, 0, 0, 2, 0, 0, 0, 1, 1, 1, 1]
    assert features(query, case).tolist() == [expected]


def test_values_are_those_of_the_network_in_torch() -> None:
    q, cases, trained = rows(1, 3)[0], rows(40, 4), model()
    network = torch.nn.Sequential(
        torch.nn.Linear(4 * DIM, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1)
    ).double()
    with torch.no_grad():
        network[0].weight.copy_(torch.from_numpy(trained.w1.T))
        network[0].bias.copy_(torch.from_numpy(trained.b1))
        network[2].weight.copy_(torch.from_numpy(trained.w2)[None])
        network[2].bias.fill_(float(trained.b2))
        s, c = torch.from_numpy(q).expand(40, DIM).double(), torch.from_numpy(cases).double()
        root = math.sqrt(DIM)
        inputs = torch.cat([root * s, root * c, DIM * s * c, root * (s - c).abs()], dim=1)
        expected = torch.sigmoid(network(inputs)).squeeze(1).numpy()
    np.testing.assert_allclose(trained.values(q, cases), expected, atol=1e-6)


@given(st.integers(0, 1000), st.lists(st.integers(0, 29), min_size=1, max_size=12))
def test_the_value_of_a_case_does_not_depend_on_its_company(seed: int, chosen: list[int]) -> None:
    q, cases = rows(1, seed)[0], rows(30, seed + 1)
    together = model(seed).values(q, cases)
    assert model(seed).values(q, cases[chosen]).tolist() == together[chosen].tolist()


def test_extreme_weights_give_probabilities() -> None:
    values = model(scale=1e4).values(rows(1, 1)[0], rows(50, 2))
    assert set(values.tolist()) == {0.0, 1.0}
    assert model().values(rows(1, 1)[0], rows(0, 2)).shape == (0,)


def test_other_dimensions_are_refused() -> None:
    for query, cases in [
        (rows(1, 0, 9)[0], rows(2, 0, 9)),
        (rows(1, 0), rows(2, 0)),
        (rows(1, 0)[0], rows(2, 0)[0]),
    ]:
        with pytest.raises(ValueError, match="vectors of 8 numbers"):
            model().values(query, cases)


def test_it_is_read_back_and_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    model().save(first)
    again = NeuralQ.load(first, SPACE)
    again.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert again.notes == {"seed": 0, "auc": 0.5}
    q, cases = rows(1, 3)[0], rows(40, 4)
    assert again.values(q, cases).tolist() == model().values(q, cases).tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_another_embedding_space_is_refused(tmp_path: Path) -> None:
    model().save(tmp_path / "q.json")
    NeuralQ.load(tmp_path / "q.json", replace(SPACE, model="another name"))
    with pytest.raises(FingerprintMismatch, match="their pooling differ"):
        NeuralQ.load(tmp_path / "q.json", HashingEmbedder(dim=16).fingerprint)


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "q.json"
    model().save(file)
    good, rng = file.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(len(good) - 1, size=60).tolist():
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(rng.integers(8))
        if bytes(flipped).split() != good.split():  # white space between the fields says nothing
            file.write_bytes(bytes(flipped))
            with pytest.raises(StoreError, match="train one"):
                NeuralQ.load(file, SPACE)
    for junk in (b"", b"[]", b"{}", b"null", b"\xff", good[:-20]):
        file.write_bytes(junk)
        with pytest.raises(StoreError, match="train one"):
            NeuralQ.load(file, SPACE)
    with pytest.raises(StoreError, match="train one"):
        NeuralQ.load(tmp_path / "absent.json", SPACE)


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    model().save(tmp_path / "q.json")
    code = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from memory.search.embed import HashingEmbedder; from memory.read.neural import NeuralQ;"
        "from memory.read import neural_fit;"
        f"e = HashingEmbedder(dim={DIM});"
        "m = NeuralQ.load(Path(sys.argv[1]), e.fingerprint);"
        "r = e.embed_queries(['a', 'b']); m.values(r[0], r);"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "q.json")],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
