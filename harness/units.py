"""Numbers to text, and nowhere else: nanoseconds, bytes, FLOP, FLOP/s and ratios as people read them.

A missing number (None or NaN) is an en dash, never 0 and never blank. Four significant digits for times, three for the rest.
"""

import math

MISSING = "–"  # en dash


def _significant(value: float, digits: int) -> str:
    """`value` with `digits` significant digits, without an exponent for what a table holds."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    rounded = round(value, decimals)
    # Rounding may have carried into one more digit: 9.9996 -> 10.00.
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded)))) if rounded else decimals
    return f"{value:.{decimals}f}".replace("-", "−")


def _scaled(value: float, steps: list[tuple[float, str]], digits: int) -> str:
    rounds_up = 1 - 0.5 * 10.0**-digits  # 999.96 µs is 1.000 ms
    factor, unit = next((step for step in steps if abs(value) >= step[0] * rounds_up), steps[-1])
    return f"{_significant(value / factor, digits)} {unit}"


def duration(ns: float | None, digits: int = 4) -> str:
    """A time in the unit that fits it: `1.234 ms`, `56.78 µs`."""
    if ns is None or math.isnan(ns):
        return MISSING
    return _scaled(ns, [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")], digits)


def wall(seconds: float | None) -> str:
    """A time that a person waits: `45 s`, `5 min 12 s`, `1 h 03 min`."""
    if seconds is None or math.isnan(seconds):
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def many(count: int, what: str) -> str:
    """A count of things whose plural ends in s: `1 cell`, `2 cells`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def threads(number: int) -> str:
    """A number of threads in words; 0 stands for all cores."""
    return many(number, "thread") if number else "all cores"


def milliseconds(ns: float | None) -> str:
    """A time in ms without its unit, for a column whose header carries it."""
    return MISSING if ns is None or math.isnan(ns) else _significant(ns / 1e6, 4)


def size(nbytes: float | None) -> str:
    """Memory in binary units: `12.3 MiB`."""
    if nbytes is None or math.isnan(nbytes):
        return MISSING
    return _scaled(nbytes, [(2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")], 3)


def flop(value: float | None) -> str:
    """FLOP in the unit that fits them: `8.17 GFLOP`."""
    if value is None or math.isnan(value):
        return MISSING
    return _scaled(value, [(1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"), (1.0, "FLOP")], 3)


def flop_rate(flop_per_s: float | None) -> str:
    """A rate in the unit that fits it: `86.4 GFLOP/s`."""
    if flop_per_s is None or math.isnan(flop_per_s):
        return MISSING
    return _scaled(flop_per_s, [(1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1.0e6, "MFLOP/s")], 3)


def byte_rate(bytes_per_s: float | None) -> str:
    """A bandwidth in decimal units, as memory is sold: `18.2 GB/s`."""
    if bytes_per_s is None or math.isnan(bytes_per_s):
        return MISSING
    return _scaled(bytes_per_s, [(1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s")], 3)


def teraflops(flop_per_s: float | None) -> str:
    """A rate in TFLOP/s without its unit, for a column whose header carries it."""
    return MISSING if flop_per_s is None or math.isnan(flop_per_s) else _significant(flop_per_s / 1e12, 3)


def ratio(value: float | None, digits: int = 3) -> str:
    """A factor: `1.25×`."""
    return MISSING if value is None or math.isnan(value) else f"{_significant(value, digits)}×"


def ratio_interval(value: float | None, low: float | None, high: float | None) -> str:
    """A factor with the bounds of its interval: `1.25× (1.20 to 1.31)`."""
    told = bounds(low, high)
    return f"{ratio(value)} ({told})" if told else ratio(value)


def bounds(low: float | None, high: float | None) -> str:
    """The interval of a factor, `1.20 to 1.31`; of a very wide one only that it is so, and of none an empty text."""
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
        return ""
    if high > VERY_WIDE**2 * low:
        return f"uncertain by over {VERY_WIDE}×"
    return f"{ratio(low).rstrip('×')} to {ratio(high).rstrip('×')}"


def count(value: float | None) -> str:
    """A number of things for an axis: `350`, `1.2k`, `4M`."""
    if value is None or math.isnan(value):
        return MISSING
    factor, unit = next((step for step in ((1e6, "M"), (1e3, "k")) if abs(value) >= step[0]), (1.0, ""))
    return f"{value / factor:.3g}{unit}"


def change(ratio: float | None) -> str:
    """A ratio as a change with its sign: `+8.0 %`, `−12.5 %`; from a factor of 2 on as a factor, `3.10×`."""
    if ratio is None or math.isnan(ratio):
        return MISSING
    if not 0.5 < ratio < 2:
        return _significant(ratio, 3) + "×"
    return f"{100 * (ratio - 1):+.1f} %".replace("-", "−")


def percent(share: float | None) -> str:
    """A share with one decimal: `12.5 %`."""
    return MISSING if share is None or math.isnan(share) else f"{100 * share:.1f} %".replace("-", "−")


VERY_WIDE = 10  # times from the centre to either end: of a wider interval the ends say nothing
WIDE = 30  # % to either side: beyond, an interval is far from symmetric, and its ends are told instead


def interval(median: float | None, low: float | None, high: float | None) -> str:
    """The half-width of an interval of times as a share of its centre, `± 1.2 %`; a wide one low to high."""
    if not median or low is None or high is None or any(map(math.isnan, (median, low, high))):
        return MISSING
    half = 50 * (high - low) / median
    return f"± {half:.1f} %" if half <= WIDE else f"{duration(low)} to {duration(high)}"


def timed(median: float | None, low: float | None, high: float | None) -> str:
    """A time and its interval, where there is one: `1.234 ms ± 1.2 %`, `1.234 ms (812.0 µs to 2.104 ms)`."""
    told = interval(median, low, high)
    if told == MISSING:
        return duration(median)
    return f"{duration(median)} {told}" if told.startswith("±") else f"{duration(median)} ({told})"
