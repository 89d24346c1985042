# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Beyond the paper: what does the shuffle's work?
#
# Suppose shuffling helps. Is it the fixed wiring, as the paper's comparison with horizontal connections in the visual
# cortex {cite:p}`gilbert1992horizontal,li2002global` has it? Any global context? Or the noise, which keeps a network
# from leaning on single channels? The paper doesn't ask. Each explanation forbids something, so each can be tried.
#
# **What you will see.** Where plain convolution ends; controls that take away one property of the shuffle at a time;
# trained networks whose wiring is swapped; what shuffling costs when images move, change their size or get worse; and
# how far chance alone carries a comparison.
#
# **What it costs.** `quick` trains fifteen small networks, in about three minutes on two cores. The other
# profiles draw stored records and answers, without images.

# %% tags=["parameters"]
profile = "quick"

# %%
import pandas as pd
from IPython.display import display

from ssconv_lib import beyondwords, contours, controljudge, controlplots, controls, controltables, judge
from ssconv_lib import mechanismjudge, mechanismplots, mechanismtables, readable, selection, sources
from ssconv_lib import stats, usagejudge, usageplots, usagetables, usageweights
from ssconv_lib.book import Chapter

chapter = Chapter("07", profile)
chapter.heading()

# %% [markdown]
# ## Where does plain convolution end?
#
# Two coloured patches lie on noise; the class says whether their colours agree. Here they are at *one* distance from
# each other. If no unit sees both, global average pooling only adds up what was seen of each, and the task can't be
# solved. So the theoretical receptive field predicts a border, between distances that can be solved and those that
# can't; a network that sees everything has none.

# %%
mechanism = chapter.records("mechanism")
cells = mechanismtables.cells(mechanism)
if len(cells):
    figure = mechanismplots.distances(cells)
    chapter.figure(figure, cells.drop(columns="errors"), "mechanism")
chapter.missing("mechanism")

# %% [markdown]
# Every point is a run. Beyond the line no unit sees both patches. Before it, that one does is necessary, not
# sufficient. The counts of all profiles that have records:

# %%
evidence = chapter.evidence("mechanism")
everywhere = mechanismtables.cells(pd.concat(evidence or [mechanism]))
borders = mechanismtables.border_table(everywhere)
chapter.table(borders, "borders", readable.readable(borders))

# %% [markdown]
# What lies beyond a border lies further apart, too, and far may be harder. So we compare plain networks at one
# distance: those that see both patches, and those that don't. (These are also deeper and less deep.) At 14 pixels
# `laptop` got six more seeds, planned when three could not tell, before they were trained.

# %%
compared = mechanismtables.same_distance(everywhere)
chapter.table(compared, "same_distance", readable.readable(compared))

# %%
if len(cells):
    figure = mechanismplots.heat_map(cells)
    chapter.figure(figure, cells.drop(columns="errors"), "solved")

# %% [markdown]
# How little is enough? The smallest α tried with which all runs solved the task:

# %%
smallest = mechanismtables.smallest_alpha(everywhere)
chapter.table(smallest, "smallest_alpha", mechanismtables.shown(smallest))

# %% [markdown]
# ## Controls at equal cost
#
# All of these do something to the same channels in the same layers, with the same parameters. Three are other
# permutations: within each channel (`per_channel`), within windows of 4×4 pixels, by half of the map (`roll`).
# `shift` moves by one pixel, as ShiftViT does {cite:p}`wang2022shift,wu2018shift`. `fresh` draws a new permutation in
# every forward, in tests as well. `zeroed` leaves nothing, `mean` puts the channel's average everywhere.

# %%
sources.show(controls.draw_control)

# %% [markdown]
# Beside them stand a network without the channels that would be shuffled, and three peers: squeeze-and-excitation
# {cite:p}`hu2018squeeze`, a global context block {cite:p}`cao2019gcnet`, and dilated convolution
# {cite:p}`yu2016multi`, of which the paper says that it leaves gaps.
#
# First with patches too far apart for plain convolution:

# %%
generated = chapter.records("controls_generated")
solved = controltables.solved_arms(pd.concat(chapter.evidence("controls_generated") or [generated]))
if len(generated):
    figure = controlplots.solved_arms(generated)
    data = generated[["model", "alpha", "control", "seed", "error", "hash"]]
    chapter.figure(figure, data, "controls_generated_runs")

# %%
display(chapter.table(solved, "controls_generated", controltables.shown(solved)))
chapter.missing("controls_generated")

# %% [markdown]
# In words, with p of Fisher's exact test where some do:

# %%
display(beyondwords.who_solves(solved))

# %% [markdown]
# What brings values from far away in one step can solve the task. It is not a matter of reach alone: in three layers
# windows reach the whole image, too (`reach`). Where p is above .05, the runs are too few to tell.
#
# In all six runs (`laptop`, November 2026) a global context block solves it, and so does dilated convolution, with
# plain convolution's depth and number of weights: the wider view is enough. As far as seeing goes, the latter speaks
# against Sec. 2.1; what the gaps cost in local detail, this task doesn't ask.
#
# Now real images, where gains are tenths of a point. Differences are to plain convolution, then to the shuffle;
# `detectable` is what so many seeds would see, below four pairs by the sd over all arms of this network:

# %%
trained = pd.concat(chapter.evidence("controls") or [chapter.records("controls")])
paired = controltables.paired_arms(trained)
if controltables.has_arms(trained):
    figure = controlplots.paired_arms(trained)
    data = trained[["model", "alpha", "control", "seed", "error", "hash"]]
    chapter.figure(figure, data, "controls_pairs", caption=False)

# %%
display(chapter.table(paired, "controls", controltables.shown(paired)))
against = controltables.paired_arms(trained, reference="ss")
display(chapter.table(against, "controls_against_ss", controltables.shown(against)))
chapter.missing("controls")

# %%
display(beyondwords.told_apart(paired))

# %% [markdown]
# ## Is the wiring used?
#
# We change the wiring of all ss convolutions of a trained network at once and read its error on the same images:
# another permutation, a fresh one in each forward, none, the channel's mean, nothing.

# %%
usage = chapter.probes("usage")
asked = pd.concat(chapter.probe_evidence("usage") or [usage])
wiring = usagetables.wiring_table(asked)
if len(wiring):
    figure = usageplots.wiring(wiring)
    chapter.figure(figure, wiring, "wiring_drops", caption=False)
chapter.missing("usage")

# %%
chapter.table(wiring, "wiring", usagetables.shown(wiring))

# %% [markdown]
# Where another permutation costs less than none at all, weights rely on values from elsewhere, never mind where. Do
# weights grow or shrink there? The norm of the weights that read a shuffled channel, over that of the others, beside
# the same channels of the plain network of that seed:

# %%
norms = usageweights.norms(chapter.with_probes("usage"), "usage")
chapter.table(norms, "weight_norms", readable.readable(norms))

# %% [markdown]
# ## What does it cost when images change?
#
# Convolution commutes with translation (but for strides and borders), a fixed shuffle doesn't. We move the test
# images, their edge filled by reflection, and count how often an answer changes (what is left is consistency
# {cite:p}`zhang2019making`):

# %%
shifts = usagetables.shift_table(asked)
if len(shifts):
    figure = usageplots.shifts(shifts)
    chapter.figure(figure, shifts, "shifts", caption=False)

# %% [markdown]
# A permutation is for one input size. At another one, a user can resize the image, or draw π anew and keep the
# weights. And what of worse images: noise, blur, low contrast {cite:p}`hendrycks2019benchmarking`, at five
# severities?

# %%
corrupted, sizes = usagetables.corruption_table(asked), usagetables.size_table(asked)
if len(corrupted):
    figure = usageplots.robustness(corrupted, sizes)
    chapter.figure(figure, corrupted, "robustness", caption=False)

# %%
display(chapter.table(sizes, "sizes", usagetables.shown(sizes)))
worse = corrupted[corrupted["severity"] == "mean"] if len(corrupted) else corrupted
chapter.table(worse, "corruptions", usagetables.shown(worse))

# %% [markdown]
# Of the one pair asked (`laptop`, November 2026), smaller images are best taken as they are, with a new π, larger ones
# resized. The shuffling network does better under noise and low contrast, worse under blur. But one network of each
# kind can't speak for all: the intervals are over images. A network at chance says nothing here.
#
# ## Pathfinder: contours
#
# The field's own test of horizontal connections {cite:p}`linsley2018learning`: two dashed contours, two dots; are the
# dots on the same contour? Ours is generated, and no view of one dot tells, nor does their distance, but the angles of
# a few dashes at either end say much. Training begins with short contours, else nothing is learned; tests have long
# ones.

# %%
pictures = contours.examples(chapter.profile, "pathfinder")
if pictures is not None:
    chapter.figure(*pictures, "pathfinder_images")

# %%
pathfinder = pd.concat(chapter.evidence("pathfinder") or [chapter.records("pathfinder")])
followed = contours.table(pathfinder)
if len(followed):
    figure = contours.runs(pathfinder)
    data = pathfinder[["profile", "model", "alpha", "control", "seed", "error", "hash"]]
    chapter.figure(figure, data, "pathfinder_runs", caption=False)

# %%
display(chapter.table(followed, "pathfinder", readable.readable(followed)))
display(beyondwords.who_follows(followed))
chapter.missing("pathfinder")

# %% [markdown]
# ## How far does chance go?
#
# The paper compares means of five runs, α picked by the test images that then report it. From our own spread: how
# many runs does a difference take, and how good does the best of several α look if all are equal?

# %%
own_sd = selection.spread_of_runs(chapter.evidence("table2"))
if own_sd:
    power = selection.power_table(own_sd.pair, own_sd.run)
    display(chapter.table(power, "power", readable.readable(power)))
    display(beyondwords.runs_needed(power))

# %%
if own_sd:
    shared = 100 * stats.sampling_error(own_sd.error / 100, own_sd.images)
    choices = [(n, arms) for n in (1, 3, 5) for arms in (2, 3, 7)]
    rows = [selection.selection_bias(own_sd.run, n, arms, shared=shared) for n, arms in choices]
    bias = pd.concat(rows)
    display(chapter.table(bias, "selection_bias", readable.readable(bias)))

# %% [markdown]
# The best of equal α looks better than it is (`optimism`). What all α share, the sampling error of the one test set,
# cancels in the choice.
#
# ## Claim, evidence, verdict
#
# The rules, as the code states them:

# %%
chapter.rules(*mechanismjudge.RULES, *controljudge.RULES, *usagejudge.RULES)

# %%
verdicts = mechanismjudge.border_claims(everywhere)
verdicts += controljudge.verdicts([*chapter.evidence("controls_generated"), trained])
verdicts += usagejudge.verdict_rows(asked) + usageweights.norm_claims(norms)
verdicts += contours.claims(pathfinder)
verdicts = pd.DataFrame(verdicts, columns=judge.COLUMNS)
chapter.table(verdicts, "verdicts")
