"""How far apart two colours look: CAM02-UCS under normal and colour-blind vision, and WCAG's contrast.

CIECAM02 by Moroney et al. 2002 under average surround (La 64/5, Yb 20, D65), its uniform space by Luo, Cui and Li 2006, colour
blindness by Machado, Oliveira and Fernandes 2009 at severity 1.
"""

import numpy as np

_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_CAT02 = np.array([[0.7328, 0.4296, -0.1624], [-0.7036, 1.6975, 0.0061], [0.0030, 0.0136, 0.9834]])
_HPE = np.array([[0.38971, 0.68898, -0.07868], [-0.22981, 1.18340, 0.04641], [0.0, 0.0, 1.0]])
_WHITE = np.array([95.047, 100.0, 108.883])
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


def rgb(colours: list[str]) -> np.ndarray:
    """`#rrggbb` as rows of three numbers from 0 to 1."""
    return np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])


def linear(channels: np.ndarray) -> np.ndarray:
    """sRGB to light."""
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def luminance(channels: np.ndarray) -> np.ndarray:
    """Relative luminance of each row, by WCAG 2.2."""
    return linear(channels) @ np.array([0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    """The contrast of two colours by WCAG 2.2, 1.4.3."""
    low, high = sorted(luminance(rgb([one, other])))
    return float((high + 0.05) / (low + 0.05))


def seen(channels: np.ndarray, vision: str) -> np.ndarray:
    """J', a', b' of each row of sRGB as this vision sees it."""
    light = np.clip(linear(channels) @ VISIONS[vision].T, 0, 1)
    return _ucs(light @ _XYZ.T * 100)


def _ucs(xyz: np.ndarray) -> np.ndarray:
    la, yb, f, c, nc = 64 / np.pi / 5, 20.0, 1.0, 0.69, 1.0
    k = 1 / (5 * la + 1)
    fl = 0.2 * k**4 * 5 * la + 0.1 * (1 - k**4) ** 2 * (5 * la) ** (1 / 3)
    n = yb / 100
    nbb, z = 0.725 * (1 / n) ** 0.2, 1.48 + np.sqrt(n)
    d = f * (1 - np.exp((-la - 42) / 92) / 3.6)
    rgb_white = _CAT02 @ _WHITE
    adapt = d * 100 / rgb_white + 1 - d

    def response(values: np.ndarray) -> np.ndarray:
        cones = (values @ _CAT02.T * adapt) @ (_HPE @ np.linalg.inv(_CAT02)).T
        power = (fl * np.abs(cones) / 100) ** 0.42
        return np.sign(cones) * 400 * power / (27.13 + power) + 0.1

    r, g, b = response(xyz).T
    white = response(_WHITE[None])[0]
    a, bb = r - 12 * g / 11 + b / 11, (r + g - 2 * b) / 9
    h = np.arctan2(bb, a)
    et = (np.cos(h + 2) + 3.8) / 4
    big_a, big_aw = ((2 * x[0] + x[1] + x[2] / 20 - 0.305) * nbb for x in ((r, g, b), white))
    j = 100 * np.maximum(big_a / big_aw, 0) ** (c * z)
    t = 50000 / 13 * nc * nbb * et * np.hypot(a, bb) / (r + g + 21 * b / 20)
    m = np.maximum(t, 0) ** 0.9 * np.sqrt(j / 100) * (1.64 - 0.29**n) ** 0.73 * fl**0.25
    jp, mp = 1.7 * j / (1 + 0.007 * j), np.log1p(0.0228 * m) / 0.0228
    return np.stack([jp, mp * np.cos(h), mp * np.sin(h)], axis=1)


def distances(channels: np.ndarray) -> np.ndarray:
    """The distance of every two rows in CAM02-UCS, the smallest over all visions."""
    found = None
    for vision in VISIONS:
        points = seen(channels, vision)
        apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
        found = apart if found is None else np.minimum(found, apart)
    return found


def nearest(colours: list[str]) -> float:
    """The distance of the two that are hardest to tell apart, under any vision."""
    apart = distances(rgb(colours))
    return float(apart[np.triu_indices(len(colours), 1)].min())
