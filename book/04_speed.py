# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Speed: what shuffling costs, and what it has to cost
#
# Shuffling multiplies nothing (chapter 1), yet the paper's network gets slower by it. This chapter times plain
# convolution, the paper's own code (Listing 1) and the layer of this library, side by side.
#
# **What you will see.** Table 4 on every machine that has records; other networks, training, lower precision; memory;
# how the cost goes with α and size; and where it comes from.
#
# **What it costs.** `quick` measures ResNet50 on the spot, an image at a time, in about a minute on two cores, and the
# second time nothing. Other profiles draw what is stored, in seconds. Let the machine rest meanwhile: whatever else
# runs shows in the numbers.

# %% tags=["parameters"]
profile = "quick"

# %%
import pandas as pd
import torch
from IPython.display import display

from ssconv_lib import SSConv2d, compilertables, judge, paper, profiling, speedjudge, speedplots, speedtables
from ssconv_lib.arms import build_network, convert
from ssconv_lib.book import Chapter
from ssconv_lib.cost import cost
from ssconv_lib.inplace import Places, while_shuffled
from ssconv_lib.sources import show
from ssconv_lib.speedrun import SpeedRun

chapter = Chapter("04", profile)
chapter.heading()

# %% [markdown]
# ## Two ways to shuffle a few channels
#
# Listing 1 copies the whole input, the few shuffled channels and all others. Our layer saves the values that move,
# writes them into the input itself in the order of π, convolves, and puts them back. (After `python -m ssconv_lib
# build` compiled code does the same; sources then say *layer compiled*.)

# %%
show(while_shuffled, Places.shuffle_)

# %% [markdown]
# Nobody must see it. With and without this fast path, the output has the same bits; the input keeps its values, and
# the counter by which torch notices writes.

# %%
layer = SSConv2d(64, 64, 3, padding=1, spatial_size=28).eval()
x = torch.relu(torch.randn(2, 64, 28, 28))
before, version = x.clone(), x._version
with torch.no_grad():
    fast = layer(x)
    layer.fast = False
    functional = layer(x)
print("same output:", torch.equal(fast, functional))
print("input as it was:", torch.equal(x, before) and x._version == version)

# %% [markdown]
# ## Table 4: conv, ss and SE
#
# The paper times ResNet50, with and without shuffling, and SEResNet50, on one GPU. Its claim, and a sentence that goes
# with it:

# %%
for name in ("cost", "better_code"):
    claim = paper.claim(name)
    print(claim["where"])
    print(claim["quote"])
    print("So we expect:", claim["predicts"], end="\n\n")

# %% [markdown]
# The arms of a case have the same weights and inputs and take turns in one process, so that what disturbs the machine
# hits all of them. A ratio compares an arm with plain convolution in the same round: its median over n rounds, and in
# brackets the quartiles. Compare ratios within one machine only. SE (squeeze-and-excitation) is the peer in cost; SE
# with shuffling is a row that the paper lacks.

# %%
table4 = chapter.speeds("table4")
rows4 = speedtables.table4(table4)
display(chapter.table(rows4, "table4", speedtables.readable(rows4)))
chapter.missing("table4")

# %%
if len(table4):
    figure = speedplots.table4(rows4)
    chapter.figure(figure, rows4, "table4_ratios", caption=False)

# %% [markdown]
# ## Other networks, training, lower precision
#
# NCHW keeps an image channel by channel, channels_last pixel by pixel, which many processors prefer; bf16 has half the
# bytes. The faster the convolution, the more a copy beside it weighs. On the two cores of `laptop`, Listing 1 costs
# most where convolution is fastest; compiled, ours costs a small part of that in most cases. The black line is plain
# convolution.

# %%
measured = chapter.speeds("speed")
cases = speedtables.cases(measured)
what = ["source", "network", "mode", "precision", "memory_format", "pixels", "batch", "n", "conv_ms"]
ratios = ["listing", "listing_low", "listing_high", "ss", "ss_low", "ss_high"]
times = cases[what + ratios]
display(chapter.table(times, "networks", speedtables.readable(times)))
chapter.missing("speed")

# %%
if len(cases):
    figure = speedplots.networks(cases)
    chapter.figure(figure, times, "networks_ratios", caption=False)

# %% [markdown]
# ## Memory
#
# For the backward, each layer keeps its input. Listing 1 keeps a shuffled copy where another layer keeps the original,
# so both stay; ours keeps the original and shuffles again. *Saves* is what a training forward keeps, *peak* the most
# that a step takes. Arms stand as ratios to plain convolution; bytes are counted, so there is no spread. Ours keeps
# next to nothing more, in every network measured.

# %%
training = cases[cases["mode"] == "training"]
arms = ["conv_saved_mb", "listing_saved", "ss_saved", "conv_peak_mb", "listing_peak", "ss_peak"]
memory = training[["source", "network", "precision", "memory_format", "pixels", "batch", *arms]]
chapter.table(memory, "memory", speedtables.readable(memory))

# %% [markdown]
# ## From few channels to all
#
# One layer by itself, on the machine of this profile that measured last; bands go from quartile to quartile. The
# ratio should fall with the channels, since the work of a convolution grows with their square and what moves does
# not. At α = 1 everything moves, and both cost most.

# %%
here = speedtables.latest(chapter.speeds("scaling"), chapter.profile.name)
scaling = speedtables.scaling(here)
if len(scaling):
    figure = speedplots.scaling(scaling)
    chapter.figure(figure, scaling, "scaling")
chapter.missing("scaling")

# %% [markdown]
# ## Compiled
#
# Could `torch.compile`, which fuses operations, do away with the copy by itself? Not reliably: Listing 1 stays slower,
# and need not add less than without the compiler. Two measurements of the same code, minutes apart, differ by more than
# their quartiles, for a reason that we don't know; uncompiled, they agree (`laptop`). Our layer is one operator of the
# compiled graph instead. On a CPU the compiler turns the convolutions that it knows to channels_last, also in an NCHW
# model, and we teach it to turn ours, which saves two copies a layer. All arms are compiled, plain convolution too.

# %%
fused = chapter.speeds("compiled")
compiled = speedtables.cases(fused)
times = compiled[["source", "network", "memory_format", "pixels", "batch", "n", "conv_ms", *ratios]]
display(chapter.table(times, "compiled", speedtables.readable(times)))
chapter.missing("compiled")

# %%
added = compilertables.with_the_compiler(cases, compiled)
more = (added["compiled_ms"] > added["eager_ms"]).groupby(added["arm"]).agg(["sum", "count"])
for arm, (cases_more, count) in more.iterrows():
    print(f"{speedtables.ARMS[arm]}: more milliseconds compiled than eager in {cases_more} of {count} measurements")
for name, frame in (("eager", measured), ("compiled", fused)):
    twice, agree = compilertables.measured_twice(frame)
    print(f"{name}, Listing 1 measured twice in {twice} cases: the quartiles overlap in {agree}")
chapter.table(added, "with_the_compiler", speedtables.readable(added))

# %% [markdown]
# ## Where the rest of the cost is
#
# First on paper. These bytes move for one image of the paper's size in ResNet50. The least is to read and to write each
# shuffled value once.

# %%
run = SpeedRun(network="resnet50", batch=1, pixels=speedtables.PAPER_SETTING["pixels"])
model = convert(build_network(run.network), run)
counts = cost(model, (3, run.pixels, run.pixels))
print(f"shuffled: {counts['moved']:,} values an image")
print(f"copied by Listing 1: {counts['listing_copies']:,}")
traffic = speedtables.traffic(profiling.bytes_moved(model, torch.zeros(1, 3, run.pixels, run.pixels)))
chapter.table(traffic, "traffic", speedtables.readable(traffic))

# %% [markdown]
# Then by the clock. `quick` profiles its first case, each arm's fastest step of several; this shows where time goes
# rather than how much, since profiling slows small operators down. *Outside operators* is Python, and code of ours that
# is no operator of torch.

# %%
if chapter.profile.trains_in_chapter:
    case = chapter.profile.speed_runs("speed")[0]
    print(f"{case.title}, threads: {torch.get_num_threads()}")
    parts = speedtables.parts_of_a_step(profiling.profile_arms(case))
    calls = parts.groupby("arm")["calls"].sum() - parts.loc[parts["arm"] == "conv", "calls"].sum()
    print(f"calls of operators that a step adds: Listing 1 {calls['listing']:.0f}, ours {calls['ss']:.0f}")
    figure = speedplots.parts_of_a_step(parts)
    chapter.figure(figure, parts, "parts")

# %% [markdown]
# How much of the extra time do the bytes explain? We measure how fast this machine copies an array that no cache holds,
# and divide.

# %%
if chapter.profile.trains_in_chapter:
    bytes_a_second = profiling.copy_bandwidth()
    print(f"copied, read and written: {bytes_a_second / 1e9:.1f} GB a second")
    own = speedtables.cases(speedtables.latest(measured, chapter.profile.name))
    inference = own[own["mode"] == "inference"]
    extra = speedtables.extra_time(inference, profiling.bytes_of(case), bytes_a_second)
    display(chapter.table(extra, "extra_time", speedtables.readable(extra)))

# %% [markdown]
# What takes longer than the copy is the handful of calls in each of dozens of layers: behind a convolution the caches
# hold something else, so every call fetches its code anew. That weighs less in larger images. In channels_last, too, a
# pixel's few shuffled values lie in a cache line of their own, and memory moves whole lines.

# %% [markdown]
# ## Claim, evidence, verdict
#
# What decides is the 95 % interval of the median ratio, from order statistics, as in a sign test: fewer than six rounds
# tell nothing. It knows one process's rounds, not what differs between processes.
#
# The first claim is about the paper's code. **Slower** is reproduced if the interval of Listing 1's ratio lies above 1,
# not reproduced if below, else we cannot tell. By **how much** is judged on a GPU with the paper's batch and images:
# does the interval include its ratio, and not 1? Elsewhere we only say whether it is smaller or larger. What the claim
# says of the error is for the ImageNet chapter.
#
# Better code is **reproduced** in a case if the interval of Listing 1's time over ours lies above 1, and our ratio's
# below the paper's; not reproduced if the former lies below 1. More than half of the cases decide, if none says the
# opposite.

# %%
verdicts = speedjudge.cost_claims(table4)
verdicts += speedjudge.better_code_claims(measured)
verdicts = pd.DataFrame(verdicts, columns=judge.COLUMNS)
chapter.table(verdicts, "verdicts")
