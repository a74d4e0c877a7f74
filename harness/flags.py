"""Flag: what a figure may be marked with, in words, and which marks bar a verdict."""

from enum import StrEnum


class Flag(StrEnum):
    """How far to trust a figure: what the engine saw (stored) and what the samples show (derived in `analysis.summary`)."""

    NOT_CONVERGED = "not_converged"
    CONTENDED = "contended"
    THROTTLED = "throttled"
    RECOMPILED = "recompiled"
    UNSTEADY_WARMUP = "unsteady_warmup"
    FEW_SAMPLES = "few_samples"
    BIMODAL = "bimodal"
    DRIFT = "drift"
    NOISY = "noisy"
    VERY_NOISY = "very_noisy"
    TRIALS_DISAGREE = "trials_disagree"
    OUTLIERS = "outliers"
    AUTOCORRELATED = "autocorrelated"
    ABOVE_CEILING = "above_ceiling"
    FLOP_DISAGREE = "flop_disagree"
    COMPOSITE = "composite"
    TWO_KINDS = "two_kinds"

    @property
    def words(self) -> str:
        """What raised it, in one sentence."""
        return _FLAG_WORDS[self]

    @property
    def bars_verdict(self) -> bool:
        """Whether a figure is never called faster or slower once more than half of its trials raise flags of this kind."""
        return self in _BARRING

    @property
    def without_visits(self) -> bool:
        """Whether it is raised in runs alone whose trials were not cut into visits."""
        return self in _WITHOUT_VISITS


_FLAG_WORDS = {
    Flag.NOT_CONVERGED: "In a run without visits: a cap on time or samples was reached before the stopping rule was content.",
    Flag.CONTENDED: "Other processes held the cores or the GPU: over 20 % of the blocks waited for one, each for over 20 % of its time, or over 20 % of the visits to a GPU found processes of others on it; in a run without visits for over 1 %, or too few others were left.",
    Flag.THROTTLED: "The GPU was throttled, or its clock under 75 % of the default, for longer than could be waited for.",
    Flag.RECOMPILED: "The call was compiled again while it was timed: that visit is void; in a run without visits, a sample of over 10 times the median was the compilation's.",
    Flag.UNSTEADY_WARMUP: "Warm-up ended at its cap before two blocks in a row agreed within 5 %.",
    Flag.FEW_SAMPLES: "A trial has fewer than 3 visits; in a run without visits, fewer than 10 samples that are not contended.",
    Flag.BIMODAL: "In a run without visits: the samples of a trial fall into two separate groups; the median says which was larger, not how long a call takes.",
    Flag.DRIFT: "In a run without visits: from the first to the last third of a trial the time moved by over 3 % and over twice the interval, and not with the yardstick.",
    Flag.NOISY: "In a run without visits: the interquartile range is over 10 % of the median.",
    Flag.VERY_NOISY: "The interquartile range of the samples of a trial is over 25 % of their median; where there are visits, after what these differ by was taken out.",
    Flag.TRIALS_DISAGREE: "The figures of the trials, each in fresh processes, range over more than 10 %; where there are visits, after the turns' common part was taken out.",
    Flag.OUTLIERS: "In a run without visits: over 5 % of the samples lie more than 3 interquartile ranges outside the quartiles.",
    Flag.AUTOCORRELATED: "In a run without visits: neighbouring samples are alike (lag-1 correlation over 0.5), so the interval within a trial is too narrow.",
    Flag.ABOVE_CEILING: "The rate is above the ceiling measured in the same run: an algorithm with fewer FLOP than counted, or a ceiling too low.",
    Flag.COMPOSITE: "The call does more than the named operation, as its op says.",
    Flag.FLOP_DISAGREE: "The framework's own FLOP count differs from both of ours by more than 1 %.",
    Flag.TWO_KINDS: "The processes of the cell are of two speeds, with a gap between them: the time is that of neither.",
}
_BARRING = {
    Flag.NOT_CONVERGED, Flag.CONTENDED, Flag.THROTTLED, Flag.RECOMPILED, Flag.UNSTEADY_WARMUP, Flag.FEW_SAMPLES, Flag.BIMODAL,
    Flag.DRIFT,
}  # fmt: skip
_WITHOUT_VISITS = {
    Flag.NOT_CONVERGED, Flag.BIMODAL, Flag.DRIFT, Flag.NOISY, Flag.OUTLIERS, Flag.AUTOCORRELATED,
}  # fmt: skip
