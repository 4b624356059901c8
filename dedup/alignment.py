"""The second opinion on a pair: one thumb laid over the other, and how well their edges agree.

Two pictures of different things may have equal hashes; laid over each other as well as an affine warp can, their edges
still disagree. A copy that was cropped, turned, stretched, framed or written on agrees wherever it was left alone, and
pixels that don't fit count little (Geman, McClure 1985). Alignment is that of Lucas and Kanade 1981, with gain and
offset for changed light, on 16x16 and then on 32x32 pixels.
"""

import math

import numba
import numpy as np
import numpy.typing as npt

from manifests.perceptual import VIEWS

Rows = npt.NDArray[np.int64]
_F32 = npt.NDArray[np.float32]
_F64 = npt.NDArray[np.float64]

_COARSE_STEPS, _FINE_STEPS = 6, 4
# Below these no pair of a picture and its changed copy was seen; most pairs that only hash alike end here.
_LEAST_LIKENESS = 0.1
_LEAST_COARSE = 0.25
# An edge counts less where a neighbour's weight is below this: its residual is beyond 1.7 times the scale.
_RIM = 1 / 16
_PARAMETERS = 8  # six of the affine warp, gain, offset
_CONVERGED = 0.0015  # of the side
# An affine warp further from where it began than this is no longer the same picture.
_MOST_WARP = 0.2
_MOST_STEP = 0.08
_PRIOR = 1e-3
_STANDARD_ERRORS = 3.0
_BLOCK_IMAGES = 256
_MOST_CORRELATION = 0.9999  # rounding leaves no more


def correlations(
    left: npt.NDArray[np.uint8],
    right: npt.NDArray[np.uint8],
    first: Rows,
    second: Rows,
    mirrored: npt.NDArray[np.bool_],
    view: npt.NDArray[np.uint8],
) -> npt.NDArray[np.float32]:
    """The least that the edges of each pair surely correlate once they are aligned, float32[P], -1..1.

    left: uint8[N, 32, 32], right: uint8[M, 32, 32], lumas of whole thumbs, the same array or two
    first, second: int64[P], rows of left and of right
    mirrored: bool[P], whether the second is to be mirrored first
    view: uint8[P], which of perceptual.VIEWS of the second looks like the first: where alignment begins

    Pairs that are plainly different are given up early, with the lower figure that they had by then.
    """
    scores = np.empty(len(first), np.float32)
    _correlate(left, right, first, second, mirrored, _STARTS[view], scores)
    return scores


def edge_pixels(lumas: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """How many pixels the edges of each picture are spread over, float32[N]; 0 where there are none.

    lumas: uint8[N, 32, 32]. The square of the gradients' summed energy by the sum of its squares: a furnished room has
    150, one line of text on white 20.
    """
    count = np.empty(len(lumas), np.float32)
    for start in range(0, len(lumas), _BLOCK_IMAGES):
        block = lumas[start : start + _BLOCK_IMAGES].astype(np.float32)
        across = block[:, 1:-1, 2:] - block[:, 1:-1, :-2]
        down = block[:, 2:, 1:-1] - block[:, :-2, 1:-1]
        energy = (across * across + down * down).reshape(len(block), -1)
        squared = np.einsum("ij,ij->i", energy, energy)
        count[start : start + _BLOCK_IMAGES] = energy.sum(axis=1) ** 2 / np.maximum(squared, 1)
    return count


def _starts() -> _F64:
    """float64[V, 6]: for each view, the warp that takes the whole frame to it."""
    starts = np.zeros((len(VIEWS), 6))
    for number, (left, top, right, bottom) in enumerate(VIEWS.values()):
        starts[number, 0], starts[number, 1] = (left + right - 1) / 2, (right - left - 1) / 2
        starts[number, 3], starts[number, 5] = (top + bottom - 1) / 2, (bottom - top - 1) / 2
    return starts


_STARTS = _starts()


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _correlate(
    left: npt.NDArray[np.uint8],
    right: npt.NDArray[np.uint8],
    first: Rows,
    second: Rows,
    mirrored: npt.NDArray[np.bool_],
    starts: _F64,
    scores: _F32,
) -> None:
    side = left.shape[1]
    fixed, moving = np.empty((side, side), np.float32), np.empty((side, side), np.float32)
    warped, weight = np.empty((side, side), np.float32), np.empty((side, side), np.float32)
    small = side // 2
    small_warped, small_weight = np.empty((small, small), np.float32), np.empty((small, small), np.float32)
    warp, light = np.empty(6, np.float64), np.empty(2, np.float64)
    for pair in range(len(first)):
        one, other = left[first[pair]], right[second[pair]]
        for y in range(side):
            for x in range(side):
                fixed[y, x] = one[y, x]
                moving[y, x] = other[y, side - 1 - x] if mirrored[pair] else other[y, x]
        warp[:] = starts[pair]
        if mirrored[pair]:
            warp[0] = -warp[0]
        small_fixed, small_moving = _halved(fixed), _halved(moving)
        scores[pair] = _first_light(small_fixed, small_moving, warp, light, small_warped, small_weight)
        if scores[pair] < _LEAST_LIKENESS:
            continue
        scores[pair] = _align(small_fixed, small_moving, warp, light, _COARSE_STEPS, small_warped, small_weight)
        if scores[pair] < _LEAST_COARSE:
            continue
        scores[pair] = _align(fixed, moving, warp, light, _FINE_STEPS, warped, weight)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _halved(image: _F32) -> _F32:
    side = len(image) // 2
    half = np.empty((side, side), np.float32)
    for y in range(side):
        for x in range(side):
            upper = image[2 * y, 2 * x] + image[2 * y, 2 * x + 1]
            half[y, x] = (upper + image[2 * y + 1, 2 * x] + image[2 * y + 1, 2 * x + 1]) * np.float32(0.25)
    return half


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _first_light(fixed: _F32, moving: _F32, warp: _F64, light: _F64, warped: _F32, weight: _F32) -> float:
    """Set gain and offset by least squares; return the plain correlation."""
    inside = _warp(moving, warp, warped, weight)
    sum_f = sum_m = sum_ff = sum_mm = sum_fm = 0.0
    side = len(fixed)
    for y in range(side):
        for x in range(side):
            if weight[y, x] > 0:
                f, m = fixed[y, x], warped[y, x]
                sum_f += f
                sum_m += m
                sum_ff += f * f
                sum_mm += m * m
                sum_fm += f * m
    if inside == 0:
        return 0.0
    var_f, var_m = sum_ff - sum_f * sum_f / inside, sum_mm - sum_m * sum_m / inside
    shared = sum_fm - sum_f * sum_m / inside
    light[0] = min(max(math.sqrt(max(var_f, 1e-6) / max(var_m, 1e-6)), 0.3), 3.0)
    light[1] = (sum_f - light[0] * sum_m) / inside
    if var_f < 1e-6 * inside or var_m < 1e-6 * inside:
        return 0.0
    correlation: float = shared / math.sqrt(var_f * var_m)
    return correlation


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _warp(image: _F32, warp: _F64, out: _F32, inside: _F32) -> int:
    """Sample the image at the warped places, bilinear; `inside` is 1 where that lies in the image. Returns how many."""
    side = len(image)
    centre, unit = (side - 1) * 0.5, 2.0 / side
    count = 0
    edge = np.float64(side - 1.001)
    for y in range(side):
        down = (y - centre) * unit
        for x in range(side):
            across = (x - centre) * unit
            at_x = x + (warp[0] + warp[1] * across + warp[2] * down) * side
            at_y = y + (warp[3] + warp[4] * across + warp[5] * down) * side
            if at_x < -0.5 or at_y < -0.5 or at_x > side - 0.5 or at_y > side - 0.5:
                inside[y, x] = 0.0
                out[y, x] = 0.0
                continue
            inside[y, x] = 1.0
            count += 1
            at_x, at_y = min(max(at_x, 0.0), edge), min(max(at_y, 0.0), edge)
            left, top = int(at_x), int(at_y)
            part_x, part_y = np.float32(at_x - left), np.float32(at_y - top)
            upper = image[top, left] + (image[top, left + 1] - image[top, left]) * part_x
            lower = image[top + 1, left] + (image[top + 1, left + 1] - image[top + 1, left]) * part_x
            out[y, x] = upper + (lower - upper) * part_y
    return count


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _weigh(fixed: _F32, warped: _F32, light: _F64, weight: _F32, inside: int) -> float:
    """Turn `weight` from 1 inside into how far each pixel is to be trusted; return the scale of the residuals."""
    side = len(fixed)
    total = 0.0
    for y in range(side):
        for x in range(side):
            if weight[y, x] > 0:
                total += abs(fixed[y, x] - light[0] * warped[y, x] - light[1])
    scale = max(1.5 * total / max(inside, 1), 2.0)
    for y in range(side):
        for x in range(side):
            if weight[y, x] > 0:
                ratio = (fixed[y, x] - light[0] * warped[y, x] - light[1]) / scale
                trust = 1.0 / (1.0 + ratio * ratio)
                weight[y, x] = trust * trust
    return scale


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _align(fixed: _F32, moving: _F32, warp: _F64, light: _F64, steps: int, warped: _F32, weight: _F32) -> float:
    """Improve warp and light by Gauss-Newton steps; return the correlation of the edges."""
    side = len(fixed)
    normal, right = np.empty((_PARAMETERS, _PARAMETERS), np.float64), np.empty(_PARAMETERS, np.float64)
    began = warp.copy()
    for _ in range(steps):
        inside = _warp(moving, warp, warped, weight)
        if 2 * inside < side * side:
            return 0.0
        scale = _weigh(fixed, warped, light, weight, inside)
        _sum_normal(fixed, warped, weight, light, normal, right)
        for i in range(_PARAMETERS):
            normal[i, i] = normal[i, i] * 1.001 + 1e-3
        hold = _PRIOR * side * side * scale * scale
        for i in range(6):
            normal[i, i] += hold
            right[i] -= hold * (warp[i] - began[i])
        step = _solved(normal, right)
        largest = 0.0
        for i in range(6):
            moved = min(max(step[i], -_MOST_STEP), _MOST_STEP)
            warp[i] = min(max(warp[i] + moved, began[i] - _MOST_WARP), began[i] + _MOST_WARP)
            largest = max(largest, abs(moved))
        light[0] = min(max(light[0] + step[6], 0.3), 3.0)
        light[1] += step[7]
        if largest < _CONVERGED:
            break
    inside = _warp(moving, warp, warped, weight)
    if 2 * inside < side * side:
        return 0.0
    _weigh(fixed, warped, light, weight, inside)
    agreed: float = _edges_agree(fixed, warped, weight)
    return agreed


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sum_normal(fixed: _F32, warped: _F32, weight: _F32, light: _F64, normal: _F64, right: _F64) -> None:
    """Fill in the upper half of the normal matrix, and the right side, of one Gauss-Newton step.

    The slope of a pixel is (gx, gx across, gx down, gy, gy across, gy down, value, 1), where down is one for a row of
    pixels: so a row sums 27 figures instead of 44, and the rest is made of them.
    """
    side = len(fixed)
    centre, unit = (side - 1) * 0.5, 2.0 / side
    half_gain = 0.5 * light[0] * side
    normal[:] = 0.0
    right[:] = 0.0
    for y in range(1, side - 1):
        xx0 = xx1 = xx2 = xy0 = xy1 = xy2 = yy0 = yy1 = yy2 = 0.0
        xv0 = xv1 = x0 = x1 = yv0 = yv1 = y0 = y1 = vv = v = one = 0.0
        rx0 = rx1 = ry0 = ry1 = rv = r1 = 0.0
        for x in range(1, side - 1):
            # Weights are above 0 inside, so a product of 0 means that a neighbour lies outside.
            trust = weight[y, x]
            if trust * weight[y, x - 1] * weight[y, x + 1] * weight[y - 1, x] * weight[y + 1, x] == 0:
                continue
            across = (x - centre) * unit
            value = np.float64(warped[y, x])
            gx = half_gain * (warped[y, x + 1] - warped[y, x - 1])
            gy = half_gain * (warped[y + 1, x] - warped[y - 1, x])
            residual = fixed[y, x] - light[0] * value - light[1]
            wx, wy, wv = trust * gx, trust * gy, trust * value
            a, b, c = wx * gx, wx * gy, wy * gy
            xx0 += a
            xy0 += b
            yy0 += c
            a *= across
            b *= across
            c *= across
            xx1 += a
            xy1 += b
            yy1 += c
            xx2 += a * across
            xy2 += b * across
            yy2 += c * across
            a, b = wx * value, wy * value
            xv0 += a
            xv1 += a * across
            yv0 += b
            yv1 += b * across
            x0 += wx
            x1 += wx * across
            y0 += wy
            y1 += wy * across
            vv += wv * value
            v += wv
            one += trust
            a, b = wx * residual, wy * residual
            rx0 += a
            rx1 += a * across
            ry0 += b
            ry1 += b * across
            rv += wv * residual
            r1 += trust * residual
        down = (y - centre) * unit
        for i, zero, first, second in ((0, xx0, xx1, xx2), (3, yy0, yy1, yy2)):
            normal[i, i] += zero
            normal[i, i + 1] += first
            normal[i, i + 2] += zero * down
            normal[i + 1, i + 1] += second
            normal[i + 1, i + 2] += first * down
            normal[i + 2, i + 2] += zero * down * down
        normal[0, 3] += xy0
        normal[0, 4] += xy1
        normal[0, 5] += xy0 * down
        normal[1, 3] += xy1
        normal[1, 4] += xy2
        normal[1, 5] += xy1 * down
        normal[2, 3] += xy0 * down
        normal[2, 4] += xy1 * down
        normal[2, 5] += xy0 * down * down
        for i, v0, v1, s0, s1, r0, rr in ((0, xv0, xv1, x0, x1, rx0, rx1), (3, yv0, yv1, y0, y1, ry0, ry1)):
            normal[i, 6] += v0
            normal[i + 1, 6] += v1
            normal[i + 2, 6] += v0 * down
            normal[i, 7] += s0
            normal[i + 1, 7] += s1
            normal[i + 2, 7] += s0 * down
            right[i] += r0
            right[i + 1] += rr
            right[i + 2] += r0 * down
        normal[6, 6] += vv
        normal[6, 7] += v
        normal[7, 7] += one
        right[6] += rv
        right[7] += r1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _solved(normal: _F64, right: _F64) -> _F64:
    """The solution by Cholesky's factors, in place, of a matrix of which the upper half is filled.

    By hand, since a library's sums differ from machine to machine.
    """
    for i in range(_PARAMETERS):
        for j in range(i, _PARAMETERS):
            rest = normal[i, j]
            for k in range(i):
                rest -= normal[k, i] * normal[k, j]
            normal[i, j] = math.sqrt(rest) if i == j else rest / normal[i, i]
    for i in range(_PARAMETERS):
        for k in range(i):
            right[i] -= normal[k, i] * right[k]
        right[i] /= normal[i, i]
    for i in range(_PARAMETERS - 1, -1, -1):
        for k in range(i + 1, _PARAMETERS):
            right[i] -= normal[i, k] * right[k]
        right[i] /= normal[i, i]
    return right


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _edges_agree(fixed: _F32, warped: _F32, weight: _F32) -> float:
    """The least that the weighted correlation of the two pictures' gradients surely is.

    Fisher's z less three standard errors, by the number of pixels that the edges' energy is spread over: two outlines
    before a plain sky agree by chance where two furnished rooms don't.
    """
    side = len(fixed)
    shared = of_fixed = of_warped = squared = 0.0
    for y in range(1, side - 1):
        for x in range(1, side - 1):
            beside = min(weight[y, x - 1], weight[y, x + 1], weight[y - 1, x], weight[y + 1, x])
            # The rim of what doesn't fit stands between pixels that do and pixels that don't. 0 lies outside.
            trust = weight[y, x] * min(1.0, beside / _RIM)
            fixed_x, fixed_y = fixed[y, x + 1] - fixed[y, x - 1], fixed[y + 1, x] - fixed[y - 1, x]
            warped_x, warped_y = warped[y, x + 1] - warped[y, x - 1], warped[y + 1, x] - warped[y - 1, x]
            energy = trust * (fixed_x * fixed_x + fixed_y * fixed_y)
            shared += trust * (fixed_x * warped_x + fixed_y * warped_y)
            of_fixed += energy
            squared += energy * energy
            of_warped += trust * (warped_x * warped_x + warped_y * warped_y)
    if of_fixed <= 0 or of_warped <= 0:
        return 0.0
    correlation = min(max(shared / math.sqrt(of_fixed * of_warped), -_MOST_CORRELATION), _MOST_CORRELATION)
    pixels = max(of_fixed * of_fixed / squared - 3, 1.0)
    least: float = math.tanh(math.atanh(correlation) - _STANDARD_ERRORS / math.sqrt(pixels))
    return least
