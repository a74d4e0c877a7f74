"""COLUMNS, the schema of every frame: what each column holds, and which columns each frame has."""

from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.axes import OPTIONS, Direction

if TYPE_CHECKING:  # workers have no pandas
    import pandas as pd


OverTrials = Literal["first", "median", "sum", "largest", "joined", "listed", "worst"]


class Column(NamedTuple):
    """How a column of a frame reads: its dtype, its unit ("" where it has none), and one line on its meaning.

    Of a column of the records, `of` says where a Record has it, as a path of attributes (its own name by default), and
    `over_trials` how the summary makes one value of those of a cell's trials:

    first    the first that says something
    median   of the trials that are ok; the column is of float64, since a median of whole numbers may be a half
    sum      of the trials that are ok
    largest  the largest that is known
    joined   every name that any trial gives, joined by commas
    listed   every text that any trial gives, joined by semicolons
    worst    that of the trial which the cell has its status from
    """

    dtype: str
    unit: str
    meaning: str
    of: str = ""
    over_trials: OverTrials = "first"


# Where the time of a step goes, by the names in Record.spent_ns; they do not overlap.
SPENT = {
    "start": "from spawning the workers of a round until all were ready; with the first record of the round.",
    "operands": "of asking whether the cell is supported, drawing its operands, and letting go of them.",
    "first_call": "of preparing the call and calling it once: compilation and autotuning.",
    "check": "of checking the result.",
    "warmup": "of warming up.",
    "stay": "of long stays, on the first night of another method.",
    "sampling": "of the timed calls, and of overwriting the caches before cold ones.",
    "witness": "of reading who waited for a core and who else ran.",
    "yardstick": "of timing the fixed piece of work, and of the call after it that warms the caches again.",
    "waiting": "of waiting for a throttled GPU.",
    "memory": "of the memory pass.",
    "energy": "of the energy window.",
    "wire": "of the rest that the parent waited for: the step sent, its record made and brought back.",
    "parent": "of keeping and showing visits and records before this one.",
    "set_aside": "of a measurement of the cell in this trial that does not count, in runs of method versions under 12: all of it but the start of workers, which stands under start.",
}

_AXES = {
    "workload": Column("string", "", "Name of the workload in its suite.", of="cell.workload"),
    "shape": Column("string", "", "The workload on one line; a convolution: n, c, k, size, filter, stride, padding, dilation, groups; o is the output padding of a transposed one.", of="cell.spec"),
    "direction": Column("string", "", "fprop, dgrad, wgrad, bprop or train; none for a matrix product or a copy.", of="cell.direction"),
    "precision": Column("string", "", "fp64, fp32, tf32, bf16 or fp16.", of="cell.precision"),
    "layout": Column("string", "", "Order of the activations' dimensions: NCHW or NHWC, or their 1-D and 3-D forms.", of="cell.layout_text"),
    "cache": Column("string", "", "hot: called again at once; cold: the caches overwritten before every call.", of="cell.cache"),
    "backend": Column("string", "", "Name of the backend.", of="cell.backend"),
    "mode": Column("string", "", "eager, compiled or xla.", of="cell.mode"),
    "optimizer": Column("string", "", "sgd or adam; empty but for direction train.", of="cell.optimizer"),
    "device": Column("string", "", "cpu or gpu:INDEX.", of="cell.device"),
    "threads": Column("int64", "", "Threads asked for; 0 is every core of the process's affinity.", of="cell.threads"),
    **{axis: Column("string", "", option.meaning, of=f"cell.options.{axis}") for axis, option in OPTIONS.items()},
    "count": Column("int64", "", "Layers of this shape in the network that the workload was taken from, as far as they have this direction.", of="cell.count"),
    "network": Column("string", "", "The network whose convolutions the suite has all of, this one among them; empty for other workloads.", of="cell.network"),
    "scaled": Column("string", "", "What was changed in the workload as its table or suite has it: n=1 for 16.", of="cell.scaled"),
    "cell": Column("string", "", "The cell's stable id: every axis, joined by slashes."),
}  # fmt: skip

_FACTS = {
    "run_id": Column("string", "", "The run."),
    "suite": Column("string", "", "Name of the suite."),
    "trial": Column("int64", "", "Number of the trial, from 0; each trial is a set of fresh processes."),
    "order": Column("int64", "", "Place of the measurement in the run, from 0."),
    **_AXES,
    "status": Column("string", "", "ok, unsupported, incorrect, oom, timeout, crashed, error, skipped or not_run.", over_trials="worst"),
    "reason": Column("string", "", "Why the status is not ok; empty where it is.", over_trials="worst"),
    "flags": Column("string", "", "How far to trust the figure, joined by commas; the report explains each.", over_trials="joined"),
    "repeated_for": Column("string", "", "In runs of method versions under 12: flags that barred an earlier measurement of the cell in this trial, for which it was set aside and made once more; the journal keeps both."),
    "op": Column("string", "", "The framework call that was timed."),
    "op_reason": Column("string", "", "Why another call was timed than the one that users of the framework make, or what is in theirs beside what was asked for, in a sentence; empty: neither, or none was told."),
    "settings": Column("string", "", "Precision and tuning settings as read back from the framework, key=value, joined by commas."),
    "threads_used": Column("Int64", "", "Threads that the framework says it uses."),
    "check_method": Column("string", "", "How the result was checked.", of="check.method"),
    "max_rel_err": Column("float64", "", "Largest error of the elements checked in floating point, relative to the size of their sums.", of="check.max_rel_err", over_trials="largest"),
    "tolerance": Column("float64", "", "What max_rel_err must stay under.", of="check.tolerance"),
    "results_vary": Column("float64", "", "Largest difference between the results of the first and of later calls, on the scale of max_rel_err; 0: none; missing: not compared.", of="check.results_vary", over_trials="largest"),
    "compared_calls": Column("string", "", "Numbers of these later calls, from the first call as 1, joined by commas: one before the warm-up's end, by lot, and one after the last sample.", of="check.compared_calls"),
    "first_call_ns": Column("float64", "ns", "The first call with its preparation: compilation and autotuning included; missing in a trial whose compilers may find what an earlier one compiled.", of="samples.first_call_ns", over_trials="median"),
    "warmup_ns": Column("float64", "ns", "Time spent warming up; missing: not told by the program that measured.", of="samples.warmup_ns"),
    "wall_ns": Column("float64", "ns", "Wall time of the sampled calls and of those between them that do not count.", of="samples.wall_ns"),
    "cpu_ns": Column("float64", "ns", "CPU time of the process during the same, all threads.", of="samples.cpu_ns"),
    "steal_ns": Column("float64", "ns", "Time that the hypervisor took from this machine during sampling; missing: not measured.", of="samples.steal_ns", over_trials="sum"),
    "iterations": Column("Int64", "", "Calls in one sample.", of="samples.iterations"),
    "stopped_by": Column("string", "", "Why sampling stopped: visits, all of which were made; by an older method interval, noise_settled, max_samples or max_time; in an imported run the program that decided it.", of="samples.stopped_by"),
    "device_method": Column("string", "", "What device_ns was read from.", of="samples.device_method", over_trials="listed"),
    "flop_framework": Column("float64", "FLOP", "The framework's own count for the call; missing: it has none."),
    "host_base_bytes": Column("float64", "bytes", "Resident memory of the worker before the call, operands included; read in the first trial alone, while the worker holds no other cell.", of="memory.host_base_bytes", over_trials="median"),
    "host_peak_bytes": Column("float64", "bytes", "Peak resident memory of the worker during that call; missing: not measured.", of="memory.host_peak_bytes", over_trials="median"),
    "device_base_bytes": Column("float64", "bytes", "Device memory in use before that call, operands included.", of="memory.device_base_bytes", over_trials="median"),
    "device_peak_bytes": Column("float64", "bytes", "Peak device memory during that call; missing: not measured.", of="memory.device_peak_bytes", over_trials="median"),
    "memory_method": Column("string", "", "How the memory was read, or why it was not.", of="memory.method"),
    "energy_j": Column("float64", "J", "Energy of the calls of the energy window, in the first trial alone; missing: not measured.", of="power.energy_j"),
    "energy_calls": Column("Int64", "", "Calls in the energy window.", of="power.calls"),
    "energy_window_ns": Column("float64", "ns", "Length of the energy window.", of="power.window_ns"),
    "energy_method": Column("string", "", "The counter that the energy was read from, or why none was.", of="power.source"),
    "gpu_clock_mhz": Column("float64", "MHz", "SM clock of the GPU after the energy window; missing: no GPU, or not told.", of="power.clock_mhz", over_trials="median"),
    "gpu_temperature_c": Column("float64", "degC", "Temperature of the GPU then.", of="power.temperature_c", over_trials="median"),
    "gpu_throttle_reasons": Column("string", "", "What held the GPU's clock down then, NVML's names joined by commas.", of="power.throttle_reasons", over_trials="joined"),
    **{f"spent_{step}_ns": Column("float64", "ns", f"Wall time {meaning}", of=f"spent_ns.{step}") for step, meaning in SPENT.items()},
    "started_at": Column("datetime64[us, UTC]", "UTC", "When the cell was begun."),
    "environment_id": Column("string", "", "The environment in run.json: machine, versions, settings."),
    "machine_id": Column("string", "", "Hash of the machine's stable part: CPU, cores, memory class, GPUs, operating system, and its name where it was given one."),
}  # fmt: skip

_SAMPLE = {
    "process": Column("Int64", "", "Number of the worker process in the run, from 0; one that had to be started anew is another. Missing: the run knows no visits, and each trial is one."),
    "turn": Column("Int64", "", "Number of the turn in the run, from 0: what was visited in one turn stood near in time."),
    "place": Column("Int64", "", "Place of the visit in its turn, from 0."),
    "visit": Column("Int64", "", "Place of the visit among those of the cell in this trial, from 0."),
    "series": Column("string", "", "latency: calls waited for one by one; throughput: queued and waited for together; device: the device's clock; stay: like latency, but in one stretch before the visits, as earlier methods did, which no figure of the run is made of."),
    "index": Column("int64", "", "Place of the sample in its series, from 0."),
    "block_ns": Column("int64", "ns", "Wall time of the block of `iterations` calls."),
    "run_delay_ns": Column("Int64", "ns", "Time the worker's threads were runnable but not running; missing: not measured."),
    "others_ns": Column("Int64", "ns", "Time that threads of other processes ran, at most what the worker left of its cores; missing: not measured."),
    "yardstick_ns": Column("Int64", "ns", "Time of a fixed piece of work, the last before this sample; missing: none was timed."),
    "contended": Column("bool", "", "Whether run_delay_ns and others_ns both exceed 20 % of block_ns, in a run without visits 1 %. Such samples of a visit count as all do; in a run without visits they are left out of every figure but that of a trial without any others."),
}  # fmt: skip

_FIGURES = {
    "barred_by": Column("string", "", "Flags that bar a verdict, joined by commas; empty unless more than half of the trials raise one."),
    "trials": Column("int64", "", "Trials with status ok."),
    "samples": Column("Int64", "", "Samples that count, over all trials; missing: they are not in the store."),
    "median_ns": Column("float64", "ns", "Time of one call: the median of the trials' medians, each over the samples of all visits of the trial; in a run without visits over its clean ones."),
    "ci_low_ns": Column("float64", "ns", "Lower end of the 95 % interval of median_ns."),
    "ci_high_ns": Column("float64", "ns", "Upper end of the 95 % interval of median_ns."),
    "ci_method": Column("string", "", "trials: t-interval on the logs of the trials' medians, each of fresh processes; under 3 trials order statistics within a process: visits, of the medians of its visits, or within, of its samples where there are no visits. None of them knows another hour."),
    "min_ns": Column("float64", "ns", "Fastest clean sample."),
    "p95_ns": Column("float64", "ns", "95th percentile of the clean samples of all trials, with what the machine's speed did between their visits; missing where a sample holds several calls."),
    "flop_nominal": Column("float64", "FLOP", "2*N*K*P*Q*(C/g)*R*S per pass; three passes for bprop and train."),
    "flop_exact": Column("float64", "FLOP", "The same without taps that fall into the padding."),
    "flop_per_s": Column("float64", "FLOP/s", "flop_nominal over median_ns: an effective rate, fast algorithms do fewer FLOP."),
    "ceiling_share": Column("float64", "", "flop_per_s over the best GEMM rate measured in the same run; missing: not measured."),
    "bytes_min": Column("float64", "bytes", "Least traffic: each operand read once, each result written once."),
    "bytes_per_s": Column("float64", "bytes/s", "bytes_min over median_ns."),
    "intensity_flop_per_byte": Column("float64", "FLOP/byte", "flop_nominal over bytes_min."),
    "workspace_bytes": Column("float64", "bytes", "Peak less base less results: a lower bound on the host, where allocators reuse pages."),
    "energy_per_call_j": Column("float64", "J", "Energy of one call from a counter; missing: not measured."),
    "effective_cores": Column("float64", "", "cpu_ns over wall_ns: how many cores the calls really used. Of a profile: of the calls that nothing watched."),
    "yardstick_ratio": Column("float64", "", "Time of one call over that of the last fixed piece of work before it: the median of the trials' medians; missing: not measured."),
    "corrected_ns": Column("float64", "ns", "yardstick_ratio times the lower quartile of the run's yardsticks at that number of threads, comparable where the interpreters of the cells have one numpy; missing: not measured."),
    "throughput_ns": Column("float64", "ns", "Time of one call where many are queued and waited for together; missing: measured on GPUs, for hot cells only."),
    "device_ns": Column("float64", "ns", "Time of one call on the device's own clock; missing: the framework offers none."),
    "contended_share": Column("float64", "", "Share of the samples that are contended; missing: not measured."),
}  # fmt: skip

_COMPARED = {
    "verdict": Column("string", "", "slower, faster, no_change or uncertain; only_base or only_new for a cell that one run lacks."),
    "why": Column("string", "", "Why there is no verdict; empty where there is one."),
    "ratio": Column("float64", "", "Time of new over base: the geometric mean of the trials' ratios; missing: one of them has no figure."),
    "ratio_low": Column("float64", "", "Lower end of the 95 % t-interval of ratio on the logs, paired by trial; missing: under 2 pairs."),
    "ratio_high": Column("float64", "", "Upper end of it."),
    "estimator": Column("string", "", "What was compared: the median, or what this machine's A/A noise says is quieter for the cell; of a night, corrected_median where nights differ less by it, and vs_standard where there is a standard."),
    "aa_noise": Column("float64", "", "What equals differ by on this machine, as a log-ratio of one trial; missing: no A/A run knows this cell."),
    "pairs": Column("int64", "", "Trials that both runs have."),
    "base_ns": Column("float64", "ns", "Time of one call in base as it was compared: the geometric mean over the pairs, by the estimator, uncorrected; without pairs the median."),
    "new_ns": Column("float64", "ns", "The same in new. new_ns over base_ns is ratio, but where the estimator is corrected by the yardstick."),
    "base_median_ns": Column("float64", "ns", "median_ns of base."),
    "new_median_ns": Column("float64", "ns", "median_ns of new."),
    "base_status": Column("string", "", "Status of the cell in base; empty where base lacks it."),
    "new_status": Column("string", "", "Status of the cell in new; empty where new lacks it."),
    "base_flags": Column("string", "", "Flags of the cell in base, joined by commas."),
    "new_flags": Column("string", "", "Flags of the cell in new, joined by commas."),
    "base_run_id": Column("string", "", "The run that is compared with."),
    "new_run_id": Column("string", "", "The run that is compared."),
}  # fmt: skip

_RANKED = {
    "competitors": Column("int64", "", "How many others it is compared with, those that are ranked of its workload, direction and setting; 0: none, or it is not ranked."),
    "best": Column("bool", "", "Whether it is the fastest of those that share workload, direction and setting, and no flag bars a verdict on it; never without a competitor, or by one trial alone."),
    "tie": Column("bool", "", "Whether it is another that is known to be as good: the interval of its time over the fastest ends under 1.02."),
    "decided": Column("bool", "", "Whether it is known to take longer than the fastest, or to be as good; of the fastest, whether that is so of all others."),
    "vs_best": Column("float64", "", "Time over that of the fastest, by the pairs of their processes; drawn to 1 by what picking the fastest does, where it is not known to take longer; 1 without a competitor; missing: not ranked."),
    "vs_best_low": Column("float64", "", "Lower end of the interval of the time over the fastest, whichever that is; missing: under 2 pairs."),
    "vs_best_high": Column("float64", "", "Upper end of it. In a group of equals all intervals hold 1 in 95 of 100 runs."),
    "vs_best_pairs": Column("int64", "", "Pairs of processes, one of the cell and one of the fastest, that were compared."),
    "tuning_differs": Column("bool", "", "Whether the kernels of some cells of its comparison were chosen by trying them and those of others not, as `autotuned` in the settings says: then a part of their ratio is tuning."),
}  # fmt: skip

_TIMES = {
    "time_ns": Column("float64", "ns", "Time of one call by all visits, as time_method says: the geometric mean over processes of the median of each one's visits' medians."),
    "time_low_ns": Column("float64", "ns", "Lower end of the 95 % t-interval of time_ns over processes, within this run: another hour is not in it; missing: under 2 processes."),
    "time_high_ns": Column("float64", "ns", "Upper end of it."),
    "processes": Column("int64", "", "Processes whose visits are in time_ns, at most one per trial; in a run without visits its trials."),
    "process_range": Column("float64", "", "How far the processes' figures range, over their median; missing: under 2 processes."),
    "two_kinds": Column("bool", "", "Whether the processes are of two speeds, with a gap between them: the time is that of neither."),
    "time_method": Column("string", "", "turns: what each turn was slower for all its cells was taken out; raw: it was not, as no turn had such a part that could be told: under three backends and under three cells of each of two, or a run without visits."),
}  # fmt: skip

_SUMS = {
    "layers": Column("int64", "", "Layers of the network in the sum: each shape as often as the network has it. Layouts of one to three dimensions count as one, first or last by where the channels stand."),
    "shapes": Column("int64", "", "Shapes of these layers, each of them a workload."),
    "missing": Column("int64", "", "Cells of them without a figure: with any, there is no sum."),
    "sum_ns": Column("float64", "ns", "Time of the convolutions of all layers, one after the other: the sum over the cells of count times the figure of a trial's process, as in time_ns, and of these sums the geometric mean over trials; missing: a cell has no figure."),
    "sum_low_ns": Column("float64", "ns", "Lower end of the 95 % t-interval of sum_ns over trials, within this run: another hour is not in it; missing: under 2 trials."),
    "sum_high_ns": Column("float64", "ns", "Upper end of it."),
    "sum_trials": Column("int64", "", "Trials in which all of the cells were measured, which are those of the sum; 0: there is none, and sum_ns is that of the medians."),
}  # fmt: skip

_ALONG = {
    "base_cell": Column("string", "", "The cell that it is held against: alike but for the axis asked for."),
    "factor": Column("float64", "", "Time over that of base_cell: the geometric mean of the ratios of pairs of processes; missing: no trial has both."),
    "factor_low": Column("float64", "", "Lower end of the 95 % t-interval of factor, for this comparison alone; missing: under 2 pairs."),
    "factor_high": Column("float64", "", "Upper end of it."),
    "process_pairs": Column("int64", "", "Pairs of processes that were compared, one of either cell in each trial; one process where both cells are of one."),
    "paired": Column("string", "", "visits: by the median of the ratios of visits in the same turn; trials: by the ratio of the figures of a trial; empty: not at all."),
    "difference": Column("string", "", "slower, faster, equivalent (within 2 %), or undecided, as under 4 pairs, under a flag that bars a verdict, or in a run that has not ended."),
}  # fmt: skip

_EXPLAINED = {
    "kernel": Column("string", "", "The kernel that computes: of the convolution or matrix product with the largest exclusive share of the call the implementation, or else the name; empty: none is known. `convbench show` adds it to the summary of a run that has profiles."),
    "rule": Column("string", "", "Name of the rule that speaks; docs/profiling.md has its threshold and its example."),
    "sentence": Column("string", "", "What the rule says of the call."),
    "rule_share": Column("float64", "", "Share of the call that the sentence is about; missing: it is about a factor alone, or the share is not known."),
    "rule_factor": Column("float64", "", "Factor that the sentence is about: time over that of a faster call, FLOP over those of the convolution, calls in a pass, steps by which an input is spread, or cores used over threads; missing: it is about a share alone."),
    "remedy": Column("string", "", "A setting with which the like was small or gone in an example; empty: none is known."),
}  # fmt: skip

_TUNED = {
    "setting": Column("string", "", "The best setting: its values on the axes that were tuned, in the order in which they were named; empty: none has a figure."),
    "default_cell": Column("string", "", "The cell of the default setting; empty: the run lacks it."),
    "default_ns": Column("float64", "ns", "median_ns of default_cell."),
    "gain": Column("float64", "", "Time of the default over that of the best setting, by the pairs of their processes; drawn to 1 by what picking the best does, where the default is not known to take longer; missing: the default has no figure."),
    "gain_low": Column("float64", "", "Lower end of its interval, at least 1, as the default is one of the settings; missing: under 2 pairs. In a group of equals all intervals hold 1 in 95 of 100 runs."),
    "gain_high": Column("float64", "", "Upper end of it."),
    "gain_pairs": Column("int64", "", "Pairs of processes, one of either, that were compared."),
    "choice": Column("string", "", "best: all others are known to take longer; equal: or to be as good; undecided: some are not; alone: no other has a figure; none: no setting has."),
    "equal_to": Column("string", "", "The settings known to be as good, within 2 %; joined by semicolons."),
    "open": Column("string", "", "The settings of which neither is known, joined by semicolons."),
    "dropped": Column("string", "", "The settings that were measured no further, each with the number of trials it had; joined by semicolons."),
    "failed": Column("string", "", "The settings that are no candidates, each with its status: above all incorrect; joined by semicolons."),
}  # fmt: skip

_PUBLISHED = {
    "table": Column("string", "", "The table of published timings that the row is from."),
    "hardware": Column("string", "", "What it was measured on, as the table names it."),
    "math": Column("string", "", "The arithmetic, as the table names it: fp32, int8, fp16 mixed ..."),
    "kind": Column("string", "", "Of a kernel what it does: convolution, gemm, reorder, transpose, copy, convert, elementwise, reduction, optimizer, framework, bookkeeping, outside or other. Of published timings what the figure was published for: train, inference ...; joined by commas where there are several."),
    "published_ns": Column("float64", "ns", "Time of one call as published: published, not measured here. Of a shape that stands there several times, the median."),
    "printed_flop_per_s": Column("float64", "FLOP/s", "The rate printed beside it; missing: none is, or one that the time contradicts, as remark says."),
    "algorithm": Column("string", "", "The algorithm that is said to have run; empty where none is named."),
    "source": Column("string", "", "Of a kernel what told of it: oneDNN, torch.profiler, XLA, TensorFlow; empty for outside. Of published timings where they are published: repository, file, sheet and row, joined by colons; several by semicolons."),
    "remark": Column("string", "", "What is wrong with the published row; empty where nothing is."),
}  # fmt: skip

_BESIDE = {
    "basis": Column("string", "", "times: the batch is the same; rates: only the batch differs, and times must not be compared."),
    "published_n": Column("int64", "", "The batch of the published shape: that of the cell, or the one before it was scaled, or the nearest there is."),
    "published_rows": Column("int64", "", "Published rows of that shape and batch."),
    "published_flop_per_s": Column("float64", "FLOP/s", "FLOP by this project's count, as in flop_nominal, over published_ns."),
    "time_over_published": Column("float64", "", "Time per FLOP of the cell over that of the published one: published_flop_per_s over flop_per_s; with basis times the ratio of the times."),
    "time_over_published_low": Column("float64", "", "The same with the lower end of the cell's interval; what was published has none."),
    "time_over_published_high": Column("float64", "", "The same with the upper end of it."),
}  # fmt: skip

_NIGHTLY = {
    "vs_standard": Column(
        "float64",
        "",
        "Time of one call over that of the cell's twin by the standard, which was visited beside it: the geometric mean over the pairs of processes; missing: there is no such twin, or one of the two is not ok.",
    ),
    "vs_standard_low": Column(
        "float64", "", "Lower end of its 95 % t-interval over pairs of processes; missing: under 2 pairs."
    ),
    "vs_standard_high": Column("float64", "", "Upper end of it."),
    "standard_environment_id": Column(
        "string", "", "The environment that the twin was measured with, as in environment_id; empty: no twin."
    ),
    "vs_stay": Column(
        "float64",
        "",
        "Time of one call by visits over that by long stays, as method 11 sampled: the geometric mean over the processes of their ratios; missing: there were no such stays.",
    ),
    "vs_stay_error": Column(
        "float64", "", "Half the width of its 95 % t-interval over processes, as a log; missing: under 2 processes."
    ),
    "reference_ns": Column(
        "float64", "ns", "Lower quartile of the run's yardsticks at this number of threads; missing: not measured."
    ),
    "memory_bytes": Column(
        "float64",
        "bytes",
        "Memory of one call on its device: its tensors, as bytes_min counts them, and workspace_bytes; missing: not measured.",
    ),
}

_CASES = {
    "state": Column("string", "", "What the gate says of the case tonight; docs/gate.md explains each."),
    "night_ns": Column("float64", "ns", "The case's median as it was measured tonight; missing: it has none, or a flag bars it."),
    "baseline_ns": Column("float64", "ns", "Median of the measured medians of the nights that it is held against, those of an earlier method times vs_stay; missing: it has no such nights."),
    "change": Column("float64", "", "Tonight over the baseline by the estimator named, less 1: 0.08 is 8 % slower; by the median night_ns over baseline_ns, by corrected_median the same with the machine's speed on each night, as the yardstick has it, taken out, by vs_standard the ratio to the standard over what it was."),
    "z": Column("float64", "", "The change in scales of the baseline."),
    "threshold": Column("float64", "", "The change that this case must exceed to be suspect, all conditions together."),
    "nights": Column("int64", "", "Nights in the baseline."),
    "since": Column("string", "", "The first run of what the state speaks of; empty where nothing has changed."),
    "dated": Column("string", "", "The run before which the change point lies, by the last 90 nights; empty: none is found, or the change is not confirmed."),
    "cause": Column("string", "", "Which versions differ between the last run before `since` and `dated` and the later of the two; empty: none that are recorded."),
    "drift": Column("float64", "", "Slow drift over the last 60 nights by the Theil-Sen slope; missing: too few nights."),
    "smallest_effect": Column("float64", "", "The slowdown that the gate finds by the second night in 95 of 100 cases; missing: no baseline."),
    "note": Column("string", "", "What else there is to say: why it has no figure, what was acknowledged and why."),
    "ran_before_id": Column("string", "", "The run whose profile ran_before is from: the newest one before the change; empty: none, or nothing is told."),
    "ran_now_id": Column("string", "", "The run whose profile ran_now is from: the newest one since the change; empty: none, or nothing is told."),
}  # fmt: skip

_RAN = {
    "what_ran": Column("string", "", "By which kernels the case was computed before and is now, and when, in a sentence; empty where neither time nor kernels have changed."),
    "ran_before": Column("string", "", "The kernels of the convolution before the change, or in base, joined by semicolons, the one that takes longest first; empty: not profiled, or nothing is told."),
    "ran_now": Column("string", "", "The same since the change, or in new."),
    "another_kernel": Column("bool", "", "Whether these are other kernels than before; False where one side was not profiled."),
}  # fmt: skip


_KERNEL = {
    "rank": Column("int64", "", "Place among the kernels of the cell by kernel_ns, from 1."),
    "name": Column("string", "", "The framework's or the library's own name of what ran; outside: the time of the call in no event at all."),
    "implementation": Column("string", "", "The kernel behind it, where its source tells: brg_conv_fwd:avx512_core."),
    "detail": Column("string", "", "The problem as its source prints it."),
    "src_format": Column("string", "", "Memory format that it reads, where its source tells: acdb."),
    "dst_format": Column("string", "", "Memory format that it writes."),
    "role": Column("string", "", "Which tensor it moves or converts, where its source tells: activation (x, y, dx or dy) or filter (w or dw)."),
    "level": Column("int64", "", "How specific its events are: 1 a span of the framework, 2 an operator, 3 an operation of a compiled program, 4 a primitive of a library or a kernel of a device; 0 for outside."),
    "calls_per_launch": Column("float64", "", "How many of them there are in one call."),
    "kernel_ns": Column("float64", "ns", "Its exclusive time per call: each instant of a call counts for the most specific event that is active, of equals for the one that began last. All kernels of a cell add up to watched_ns."),
    "share": Column("float64", "", "kernel_ns over watched_ns."),
    "kernel_threads": Column("int64", "", "Threads, or streams of a device, on which it ran in one call."),
}  # fmt: skip

_PROFILED = {
    "plain_ns": Column("float64", "ns", "Time of a call that nothing watched, in the process that made the profile: the mean of the fastest fifth of the undisturbed calls, at least 3; missing: not measured."),
    "watched_ns": Column("float64", "ns", "The same of calls that were watched, which the kernels describe; missing: problem says why."),
    "calls": Column("int64", "", "Calls that were watched."),
    "clean_calls": Column("int64", "", "How many of them were undisturbed, by the rule of a visit."),
    "flop_compiled": Column("float64", "FLOP", "FLOP of the program after optimisation, where a compiler tells."),
    "sources": Column("string", "", "What the profile read, with versions, joined by semicolons."),
    "trace": Column("string", "", "A Chrome trace of three calls, as a file in the folder of the run; empty: there is none."),
    "problem": Column("string", "", "Why there is no profile, or not all of it; empty: nothing is wrong."),
    "made_at": Column("datetime64[us, UTC]", "UTC", "When the profile was begun."),
    "spent_ns": Column("float64", "ns", "What making it took, from preparing the call to the last check; the start of the process is not in it."),
}  # fmt: skip

_OF_PROFILE = {
    "timed_ns": Column("float64", "ns", "median_ns of the cell in the run, which nothing watched; missing: the run did not time it."),
    "overhead": Column("float64", "", "watched_ns over plain_ns: what watching costs."),
    "outside_ns": Column("float64", "ns", "Time of the call in no event at all: Python, and waiting for another thread."),
    "kernel_share": Column("float64", "", "Share of what computes: convolution, gemm, elementwise, reduction, optimizer. With move_share, framework_share and the share of outside_ns it adds up to 1."),
    "move_share": Column("float64", "", "Share of what moves data: reorder, transpose, copy, convert."),
    "framework_share": Column("float64", "", "Share of all other events: framework, bookkeeping, other."),
    "flop_ratio": Column("float64", "", "flop_compiled over flop_exact of all passes."),
    "incomplete": Column("string", "", "What keeps the profile from telling all, in a sentence: watching cost too much, the run timed another time, or most of a long call is in no kernel; empty: nothing does."),
}  # fmt: skip


def of_convolutions(frame: "pd.DataFrame") -> "pd.Series[bool]":
    """Which rows of a frame are of convolutions: the rest is of what serves as a ceiling."""
    return frame["direction"] != str(Direction.NONE)


COLUMNS: dict[str, Column] = {
    **_FACTS, **_SAMPLE, **_FIGURES, **_COMPARED, **_RAN, **_RANKED, **_TIMES, **_SUMS, **_ALONG, **_EXPLAINED, **_TUNED, **_PUBLISHED, **_BESIDE, **_NIGHTLY, **_CASES,
    **_KERNEL, **_PROFILED, **_OF_PROFILE,
}  # fmt: skip

RECORD_COLUMNS: tuple[str, ...] = tuple(_FACTS)
SAMPLE_COLUMNS: tuple[str, ...] = ("run_id", "trial", "cell", "iterations", *_SAMPLE)
SUMMARY_COLUMNS: tuple[str, ...] = (
    "run_id", "suite", *_AXES, "status", "reason", "flags", "barred_by", "op", "op_reason", "settings", "trials", "samples",
    "median_ns", "ci_low_ns", "ci_high_ns", "ci_method",
    "time_ns", "time_low_ns", "time_high_ns", "time_method", "processes", "process_range",
    "min_ns", "p95_ns", "throughput_ns", "device_ns", "device_method", "first_call_ns",
    "flop_nominal", "flop_exact", "flop_framework", "flop_per_s", "ceiling_share",
    "bytes_min", "bytes_per_s", "intensity_flop_per_byte",
    "host_base_bytes", "host_peak_bytes", "device_base_bytes", "device_peak_bytes", "workspace_bytes", "memory_method",
    "energy_per_call_j", "energy_method", "gpu_clock_mhz", "gpu_temperature_c", "gpu_throttle_reasons",
    "threads_used", "effective_cores", "yardstick_ratio", "corrected_ns", "contended_share", "steal_ns",
    "check_method", "max_rel_err", "tolerance", "results_vary", "started_at", "environment_id", "machine_id",
)  # fmt: skip
COMPARISON_COLUMNS: tuple[str, ...] = ("suite", *_AXES, *_COMPARED, *_RAN)
RANK_COLUMNS: tuple[str, ...] = tuple(_RANKED)
TIME_COLUMNS: tuple[str, ...] = ("run_id", "cell", *_TIMES)
SUM_COLUMNS: tuple[str, ...] = (
    "run_id", "network", "scaled", "backend", "mode", "optimizer", "device", "precision", "layout", "cache", "threads",
    *OPTIONS, "direction", *_SUMS,
)  # fmt: skip
ALONG_COLUMNS: tuple[str, ...] = ("run_id", "suite", *_AXES, "median_ns", "barred_by", *_ALONG)
TUNED_COLUMNS: tuple[str, ...] = (
    "run_id", "suite", *_AXES, "median_ns", "setting", "default_cell", "default_ns", "gain", "gain_low", "gain_high", "gain_pairs",
    "choice", "equal_to", "open", "dropped", "failed", "best", "tie", "vs_best", "vs_best_low", "vs_best_high",
)  # fmt: skip
EXPLANATION_COLUMNS: tuple[str, ...] = ("run_id", *_AXES, *_EXPLAINED)
PUBLISHED_COLUMNS: tuple[str, ...] = (
    "table", "hardware", "math", "kind", "direction", "shape", "published_ns", "printed_flop_per_s", "algorithm", "source",
    "remark",
)  # fmt: skip
BESIDE_COLUMNS: tuple[str, ...] = (
    "suite", *_AXES, "table", "hardware", "math", "kind", "basis", "published_n", "published_rows",
    "published_ns", "median_ns", "ci_low_ns", "ci_high_ns", "published_flop_per_s", "flop_per_s",
    "time_over_published", "time_over_published_low", "time_over_published_high", "algorithm", "source", "remark", "run_id",
)  # fmt: skip
# One row per cell of one night: what is kept of a run for its history, small enough to read a year of them.
NIGHT_COLUMNS: tuple[str, ...] = (
    "run_id", "cell", "workload", "shape", "direction", "backend", "mode", "device", "threads", "status", "reason",
    "barred_by", "median_ns", "yardstick_ratio", "reference_ns", "environment_id", "machine_id",
    "vs_standard", "vs_standard_low", "vs_standard_high", "standard_environment_id", "vs_stay", "vs_stay_error",
    "first_call_ns", "memory_bytes",
)  # fmt: skip
CASE_COLUMNS: tuple[str, ...] = (
    "cell", "machine_id", "workload", "shape", "direction", "backend", "mode", "device", "threads", "status", "state",
    "estimator", *(name for name in _CASES if name != "state"), *_RAN,
)  # fmt: skip
# One row per cell and kernel: what ran inside a call.
KERNEL_COLUMNS: tuple[str, ...] = (
    "run_id", *_AXES, "rank", "name", "kind", "implementation", "detail", "src_format", "dst_format", "role", "level", "source",
    "calls_per_launch", "kernel_ns", "share", "kernel_threads",
)  # fmt: skip
# One row per cell that was profiled; what is stored of it, and all that is known with the kernels and the run's figures.
PROFILED_COLUMNS: tuple[str, ...] = (
    "run_id", *_AXES, "plain_ns", "watched_ns", "calls", "clean_calls", "flop_compiled", "effective_cores", "sources", "op",
    "op_reason", "trace", "problem", "made_at", "spent_ns", "environment_id",
)  # fmt: skip
PROFILE_COLUMNS: tuple[str, ...] = (
    "run_id", *_AXES, "plain_ns", "watched_ns", "timed_ns", "overhead", "calls", "clean_calls", "outside_ns",
    "kernel_share", "move_share", "framework_share", "flop_compiled", "flop_ratio", "effective_cores",
    "sources", "op", "op_reason", "trace", "problem", "incomplete", "made_at", "spent_ns", "environment_id",
)  # fmt: skip
