"""CKNNA: how far two networks agree about which images are alike (Huh et al. 2024, appendix; the paper measures D by it).

CKA whose kernels keep, in each row, only the pairs that are among the k nearest neighbours of that row in both kernels:

    K = a a^T, L = b b^T                          kernels of unit-norm features
    N_K(i)                                        the k columns in which row i of K is largest (unbiased: i itself apart)
    m(K, L)_ij = [j in N_K(i)] [j in N_L(i)]
    Align(K, L) = HSIC(m K, m L)                  unbiased: Song et al. 2012, equation 5; biased: tr(K H L H)
    CKNNA = Align(K, L) / (sqrt(Align(K, K) Align(L, L)) + 1e-6)

Of its authors' code (minyoungg/platonic-rep) we keep the 1e-6, for which features compared with themselves do not reach 1:
Align(K, K) is at most k / n times the mean square of neighbours' products, so that at n = 10,000 and k = 10 they reach 0.999
at most, and 0.93 if they are normal numbers in 768 dimensions (measured). Compare numbers of equal n and k.
Masked kernels are sparse, k entries per row, and are found in blocks of rows: memory grows with n (d + k), not with n^2.
Ties between neighbours are broken by no rule: equal rows (a collapsed network) make the number arbitrary.
Shapes: n images, d width of features, R rows of a block.
"""

import math
import runpy
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from gat.errors import UserError

Features = Tensor | NDArray[np.floating]

K_NEAREST = 10
QUANTILE = 0.95
EPS = 1e-6
TINY = 1e-12  # an alignment that is rounding
NORM_TOLERANCE = 1e-3
BLOCK_VALUES = 2**23  # of one kernel at a time: 64 MiB in float64


def prepared(features: Features, quantile: float = QUANTILE) -> Tensor:
    """Features (n, d) as the source prepares them: clamped to +-c, then rows of unit norm. float64 (n, d).

    c: the value at place floor(quantile n d), from 0, of all n d absolute values in ascending order (the source's exact form;
    its quick one averages a quantile per row). ``quantile`` 1: not clamped. Raises :class:`UserError` for a quantile outside
    (0, 1], a value that is not finite, and a row of zeros, which has no direction.
    """
    if not 0 < quantile <= 1:
        raise UserError(f"quantile={quantile} must lie in (0, 1]: the source's is {QUANTILE}")
    x = _matrix(features, "features")
    if quantile < 1:
        bound = x.abs().flatten().kthvalue(int(quantile * x.numel()) + 1).values
        x = x.clamp(-bound, bound)
    norms = x.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        row = int((norms[:, 0] == 0).nonzero()[0])
        raise UserError(f"row {row} of the features is all zeros once clamped: leave that image out, or raise quantile")
    return x / norms


def cknna(a: Features, b: Features, k: int, unbiased: bool = True) -> float:
    """CKNNA of unit-norm features a (n, d1) and b (n, d2) of the same n images; the larger, the more they agree.

    Computed in float64, on the features' device but for the sums. Raises :class:`UserError` for rows that are not of unit
    norm, different n, k outside 2 ... n-1, values that are not finite, and features so alike that it is not defined.
    """
    x, y = _pair(a, b)
    if not 2 <= k < len(x):
        raise UserError(f"k={k} must lie between 2 and n-1 = {len(x) - 1}: the usual one is {K_NEAREST}")
    kernel_x, kernel_y = nearest(x, k, unbiased), nearest(y, k, unbiased)
    mine, other = kernel_x * ones_of(kernel_y), kernel_y * ones_of(kernel_x)
    own = hsic(kernel_x, kernel_x, unbiased), hsic(kernel_y, kernel_y, unbiased)
    return _ratio(hsic(mine, other, unbiased), *own)


def cka(a: Features, b: Features, unbiased: bool = True) -> float:
    """Linear CKA of the same features: CKNNA with all images as neighbours. Errors as :func:`cknna`; memory as there."""
    x, y = _pair(a, b)
    n = len(x)
    rows = {"x": np.zeros(n), "y": np.zeros(n)}
    product = {"xy": 0.0, "xx": 0.0, "yy": 0.0}
    for start, block_x, block_y in zip(_starts(n), _blocks(x), _blocks(y), strict=True):
        if unbiased:
            for block in (block_x, block_y):
                block.diagonal(start).zero_()
        for name, block in (("x", block_x), ("y", block_y)):
            rows[name][start : start + len(block)] = block.sum(dim=1).cpu().numpy()
        product["xy"] += float((block_x * block_y).sum())
        product["xx"] += float(block_x.square().sum())
        product["yy"] += float(block_y.square().sum())
    of = {p: _hsic(value, rows[p[0]], rows[p[1]], rows[p[0]], rows[p[1]], unbiased) for p, value in product.items()}
    return _ratio(of["xy"], of["xx"], of["yy"])


def nearest(x: Tensor, k: int, unbiased: bool) -> csr_array:
    """The kernel x x^T of x (n, d) with each row's k largest entries, sparse (n, n); ``unbiased``: the diagonal apart."""
    n = len(x)
    values, columns = np.empty((n, k)), np.empty((n, k), dtype=np.int32)
    for start, block in zip(_starts(n), _blocks(x), strict=True):
        if unbiased:
            block.diagonal(start).fill_(-torch.inf)
        top = block.topk(k, dim=1)
        rows = slice(start, start + len(block))
        values[rows], columns[rows] = top.values.cpu().numpy(), top.indices.cpu().numpy()
    return csr_array((values.ravel(), columns.ravel(), np.arange(n + 1) * k), shape=(n, n))


def ones_of(kernel: csr_array) -> csr_array:
    """1 wherever ``kernel`` has an entry, be it 0."""
    return csr_array((np.ones_like(kernel.data), kernel.indices, kernel.indptr), shape=kernel.shape)


def hsic(p: csr_array, q: csr_array, unbiased: bool) -> float:
    """HSIC of sparse p and q (n, n), not symmetric; the unbiased one takes their diagonals to be 0."""
    product = float((p * q.T.tocsr()).sum())
    return _hsic(product, p.sum(axis=1), q.sum(axis=1), p.sum(axis=0), q.sum(axis=0), unbiased)


def _hsic(
    product: float,
    rows_p: NDArray[np.float64],
    rows_q: NDArray[np.float64],
    columns_p: NDArray[np.float64],
    columns_q: NDArray[np.float64],
    unbiased: bool,
) -> float:
    """From tr(p q) and the sums of rows and columns, each (n,). The sum of p q is sum_j columns_p[j] rows_q[j]."""
    n = len(rows_p)
    sums = float(rows_p.sum() * rows_q.sum())
    pq, qp = float(columns_p @ rows_q), float(columns_q @ rows_p)
    if unbiased:
        return (product + sums / ((n - 1) * (n - 2)) - 2 * pq / (n - 2)) / (n * (n - 3))
    return product - (pq + qp) / n + sums / n**2


def _ratio(both: float, own_x: float, own_y: float) -> float:
    if min(own_x, own_y) < TINY:
        which = "first" if own_x < TINY else "second"
        raise UserError(
            f"the {which} features do not tell the images apart (their alignment with themselves is {min(own_x, own_y):.3g}, "
            "not positive): is the network collapsed, or are there too few images?"
        )
    return both / (math.sqrt(own_x * own_y) + EPS)


def _starts(n: int) -> range:
    return range(0, n, max(1, BLOCK_VALUES // n))


def _blocks(x: Tensor) -> Iterator[Tensor]:
    """The kernel of x (n, d) in blocks of rows (R, n); row ``start`` of the first of :func:`_starts`, and so on."""
    starts = _starts(len(x))
    return (x[start : start + starts.step] @ x.T for start in starts)


def _pair(a: Features, b: Features) -> tuple[Tensor, Tensor]:
    x, y = _matrix(a, "first features"), _matrix(b, "second features")
    if len(x) != len(y):
        raise UserError(f"features of {len(x)} and of {len(y)} images: give both of the same images, in the same order")
    if len(x) < 4:
        raise UserError(f"features of {len(x)} images: give at least 4")
    for matrix, name in ((x, "first"), (y, "second")):
        norms = matrix.norm(dim=1)
        worst = int((norms - 1).abs().argmax())
        if abs(float(norms[worst]) - 1) > NORM_TOLERANCE:
            raise UserError(
                f"row {worst} of the {name} features has norm {float(norms[worst]):.4g}, not 1: give prepared(features)"
            )
    return x, y


def _matrix(features: Features, name: str) -> Tensor:
    """As float64 (n, d); :class:`UserError` for another shape or a value that is not finite."""
    x = torch.as_tensor(features).detach().double()
    if x.ndim != 2 or 0 in x.shape:
        raise UserError(f"{name} of shape {tuple(x.shape)}: give (images, width), e.g. averaged over patches")
    finite = x.isfinite().all(dim=1)
    if not bool(finite.all()):
        raise UserError(
            f"row {int((~finite).nonzero()[0])} of the {name} holds NaN or infinity: did the network diverge?"
        )
    return x


if __name__ == "__main__":  # the command stands apart; this is where one looks for it
    runpy.run_module("analysis.discriminator_cknna", run_name="__main__")
