# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Receptive fields: what do the units see?
#
# A unit of a convolution sees a square of the image. With shuffling it sees all of it, says the paper, and draws it
# (Fig. 3 to 8). This chapter makes these figures anew, and asks what they can't show: how much of what is in view
# counts, and whether that is learned or built in.
#
# **What you will see.** Three answers: the *exact reach*, what can change a unit at all; the *effective* receptive
# field, how much it does; and the paper's, a map found by optimisation (Eq. 4).
#
# **What it costs.** `quick` looks at the real ResNet50, untrained, and trains three small networks for Eq. 4: four
# minutes on two cores. The other profiles draw stored maps.

# %% tags=["parameters"]
profile = "quick"

# %%
import pandas as pd

from ssconv_lib import fieldchannel, fieldjudge, fieldlearned, fieldlines, fieldlocation
from ssconv_lib import fieldnets, fieldplots, fieldstep, fieldtables, fieldviews
from ssconv_lib import judge, paper, readable, sources, tables
from ssconv_lib.book import Chapter

chapter = Chapter("05", profile)
chapter.heading()

# %% [markdown]
# ## The wiring: what can change a unit at all
#
# From the paper's blue box, the units under pixels 96 to 127 of each axis, we send a gradient back through a
# forward in which nothing cancels: all weights equal and positive, every ReLU open, a product depending on both
# factors. Where it arrives, a pixel can change a unit.

# %%
alpha = paper.ALPHA_TAKEN[3]
images = fieldnets.noise(16)
models = fieldnets.trio(alpha, images)
reached = fieldnets.reaches(models)
chains = fieldnets.classical_chain(models["ResNet50"])
reach = fieldtables.reach_table(reached, chains)
shown = {name: reach[name].map("{:.5g}".format) for name in reached}  # .99996 is not 1
chapter.table(reach, "reach", reach.assign(**shown))

# %% [markdown]
# `size` is a plain unit's, in pixels; then the plain network's first and last pixel, and shares of the image.
# One block of ss convolution, or one gate, opens the view. The stem and its pooling stay as they were: of three
# channels ⌊3α⌋ = 0 would be shuffled.

# %%
layers = ["conv1", "layer1.0", "layer2.1", "layer3.1", "layer4.0"]
shown = {name: {layer: maps[layer] for layer in layers} for name, maps in reached.items()}
title = "Exact reach: what can change the units in the box"
figure = fieldplots.map_grid(shown, fieldnets.BOX, title=title, label="reached")
chapter.figure(figure, fieldplots.grid_data(shown), "reach_maps")

# %% [markdown]
# ## The gradient: how much each pixel counts
#
# In view is not in use. {cite:t}`luo2016understanding` look at the gradient. Squared, it is the response to
# independent noise in the pixels, and weighs what is spread thinly over N of them by 1/N; its absolute value doesn't.
# So we take both, of untrained networks, on noise. What share lies outside the plain network's field?

# %%
layers = ["layer1.0", "layer1.2", "layer2.1", "layer2.3"]
plain = reached["ResNet50"]
outside = fieldtables.shares_outside(models, plain, images[:8], layers)
figure = fieldlines.mass_outside(outside)
chapter.figure(figure, outside, "mass_outside")

# %% [markdown]
# Shuffling brings in more than the share of *paths* from there, a matter of α and depth. Gates bring in little,
# spread thinly: hundreds of times less in squares, several times in absolute values. Fig. 3 paints both in the same
# red.
#
# ## Does the view depend on where one looks from?
#
# Fig. 4 says: with gates no, with shuffling yes. We compare what channel 64 of conv2_1 sees outside from two boxes,
# by the overlap of effective fields (Σ min over Σ max, each scaled to a sum of 1); and from one box on two sets of
# images, for the noise.

# %%
other = fieldnets.untrained("resnet50", alpha, images, pi_seed=1)
kinds = {name: [models[name]] for name in (fieldnets.SHUFFLED, fieldnets.GATED)}
kinds[fieldnets.SHUFFLED].append(other)
location = fieldlocation.location(kinds, models["ResNet50"], images, "layer1.0")
chapter.table(location, "location", readable.readable(location))

# %% [markdown]
# So it is: through gates two boxes see the same, since a gate multiplies its channel alike everywhere; through a
# shuffle, no more in common than with another π. (`of_same`: the overlap over that of one box, its interval over
# images.)
#
# The paper builds on it: "This difference may be the reason why ss convolution marginally improves the classification
# performance on SEResNet50." That has not been tested here; it takes SE networks trained with and without shuffling on
# real images:

# %%
pairs = tables.pairs(chapter.evidence("table3"))
gated = pairs["model"].map(fieldviews.has_gates).sum()
print(f"SE networks trained with and without shuffling on real images: {gated} pairs of runs")

# %% [markdown]
# ## Eq. 4: the paper's map
#
# A mask σ(R) dims the image x. R is sought so that it hides what it can, yet keeps the features φ in the box, where
# M is 1:
#
# R* = argmin ‖M · (φ(σ(R) · x) − φ(x))‖² + β ‖σ(R)‖₁
#
# One R serves all images. (The printed bracket is set differently; the gradient is the same.) Where the text leaves
# it open, we read: the box in the layer's own units, its end left out; the network in evaluation; the squared error
# summed over the box and its channels, in the mean over a batch; pixels hidden after normalisation.

# %%
sources.show(fieldstep.OptimisedField.step)

# %%
found = chapter.fields("layerwise")
maps = chapter.field_maps("layerwise")
trained = fieldviews.drawn(found[found.trained], maps)
exact = fieldviews.exact(chapter.profile, "layerwise")
classical = next(iter(exact.values()), {})
chapter.missing("layerwise")

# %%
if trained:
    first = found.iloc[0]
    box = (first.box_low, first.box_high)
    where = f"box {first.box_low} to {first.box_high}"
    print(f"{tables.source(found)}; {where}, {first.iterations} iterations, batches of {first.batch}")
    some, title = fieldviews.some_layers(trained), "Fig. 3: receptive fields by Eq. 4"
    figure = fieldplots.map_grid(some, box, title=title, outlines=classical)
    chapter.figure(figure, fieldplots.grid_data(trained), "figure3")

# %% [markdown]
# Fig. 6 to 8, every layer:

# %%
for number, network in fieldviews.figure_names(found[found.trained]).items():
    one = {network: trained[network]}
    title = f"Fig. {number[-1]}: receptive field of {network} by Eq. 4"
    figure = fieldplots.map_grid(one, box, title=title, outlines=classical)
    chapter.figure(figure, fieldplots.grid_data(one), number)

# %% [markdown]
# A pixel hidden alone, by a little, 1 − σ, changes the features by about (1 − σ)² s, where s is its squared gradient
# times its squared value, summed over the box. The best σ is 1 − β/2s: above a half wherever s exceeds β. With β =
# 10⁻⁶ that is nearly the exact reach.
#
# Fig. 5 (a) counts R's values, of all colours, with σ(R) ≥ 1/2; R starts where σ is just that, so the strict count
# stands beside it.

# %%
sizes = fieldviews.optimised_sizes(found, exact)
if len(sizes):
    figure = fieldlines.sizes(sizes[sizes.trained])
    chapter.figure(figure, sizes, "figure5a")

# %% [markdown]
# ## Learned, or built in?
#
# The paper's size before and after training, beside the exact reach, and the trained map's intersection over union
# with it (`iou`):

# %%
having = chapter.with_fields("layerwise")
summary = fieldviews.summaries(having, "layerwise")
chapter.table(summary, "optimised", readable.readable(summary))

# %% [markdown]
# The large view is there before anything is learned: Fig. 5 (a) is a property of the wiring. What is learned is how
# much to make of it. The share of the gradient from outside, in one network each, on images of the generated task or
# else on noise:

# %%
learned = fieldlearned.learned(having, "layerwise")
if len(learned):
    figure = fieldlines.learned(learned)
    chapter.figure(figure, learned, "learned", caption=False)

# %% [markdown]
# Where the task can't be solved otherwise, the last layer turns to the outside. On noise, WRN-10-2 trained on
# CIFAR-10 turns away from it; yet un-shuffling costs it points (chapter 6). The three answers side by side, the
# effective field as its root, or only a dot would show:

# %%
network, measures = fieldlearned.measures(chapter.profile, "layerwise", trained)
if measures:
    own = summary[(summary.source == tables.source(found)) & (summary.model == network)]
    title = f"What {network} sees: three answers"
    figure = fieldplots.beside(measures, box, title=title, agreement=own)
    chapter.figure(figure, fieldplots.grid_data(measures), "beside")

# %% [markdown]
# ## β, and where R starts
#
# Channelwise, β is 10⁻¹². Where nothing depends on a pixel, only the penalty moves R, and Adam
# {cite:p}`kingma2015adam` divides it by its size *plus ε*. That can be followed exactly:

# %%
penalties, epsilons, starts = [1e-6, 1e-12], [1e-8, 1e-16], [-3.0, 0.0, 3.0]
drift = fieldtables.drift(penalties, epsilons, starts, iterations=10_000)
exact = {name: drift[name].map("{:.0e}".format) for name in ("beta", "eps")}
chapter.table(drift, "drift", drift.round(3).assign(**exact))

# %% [markdown]
# With the usual ε of 10⁻⁸, R stays at its start, and R₀ alone decides whether such a pixel passes Fig. 4's threshold
# of .1. Ours start below it.

# %%
varied = chapter.fields("sensitivity")
settings = fieldviews.settings(varied, chapter.field_maps("sensitivity"))
for name, (same, panels) in settings.items():
    box, at = (same.box_low, same.box_high), fieldchannel.threshold(same.channel)
    title = f"Eq. 4 with another {name}: {fieldviews.looked_at_text(same)}"
    figure = fieldplots.map_grid(panels, box, title=title, threshold=at)
    chapter.figure(figure, fieldplots.grid_data(panels, at), f"sensitivity_{name}")

# %% [markdown]
# A higher price closes the view: first what comes through the shuffle, near or far (`laptop`), last the plain field.
# Black for a hidden pixel (`laptop`) changes little. Fig. 4, and how much of the reach it has found; in `laptop`, which
# has no SE network, the plain one stands in, without letters:

# %%
channelwise = chapter.fields("channelwise")
boxes = fieldchannel.by_box(channelwise, chapter.field_maps("channelwise"))
if boxes:
    title = f"Fig. 4, two boxes: {fieldviews.looked_at_text(channelwise.iloc[0])}"
    figure = fieldplots.channelwise(*boxes, title=title)
    chapter.figure(figure, channelwise, "figure4")

# %%
numbers = fieldchannel.channelwise_table(chapter.profile, "channelwise")
chapter.table(numbers, "channelwise", readable.readable(numbers))

# %% [markdown]
# `outside`: what two boxes' maps have in common outside both fields; `by_chance`: what independent maps of such sizes
# would. Maps that find nearly everything can't differ; those that have not yet found it differ for that.
#
# ## What an iteration costs
#
# A first version runs the whole network twice and forms all gradients; ours ends behind the layer and forms R's. Both
# in turn in one process, medians of the records:

# %%
cost = fieldviews.cost(found)
chapter.table(cost, "cost", readable.readable(cost))

# %% [markdown]
# ## Claim, evidence, verdict
#
# The rules, as the code states them:

# %%
chapter.rules(*fieldjudge.RULES)

# %%
verdicts = [fieldjudge.growth_claim(reach)]
verdicts += fieldjudge.cover_claims(reach)
verdicts += fieldjudge.use_claims(outside)
verdicts += fieldjudge.location_claims(location)
verdicts += fieldjudge.optimised_claims(summary)
verdicts = pd.DataFrame(verdicts, columns=judge.COLUMNS)
chapter.table(verdicts, "verdicts")
