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
# A unit of a convolution sees a square of the image. With shuffling it sees all of it, says the paper, and draws what
# ResNet50 sees (Fig. 3 to 8). This chapter makes these figures anew, and asks what they can't show: how much of what
# is in view counts, and whether that is learned or built in.
#
# **What you will see.** Three answers: the *exact reach*, the pixels that can change a unit at all; the *effective*
# receptive field, how much each does; and the paper's, a map found by optimisation (Eq. 4).
#
# **What it costs.** `quick` looks at the real ResNet50, untrained, and trains three small networks for Eq. 4: three
# minutes on two cores. The other profiles draw stored maps.

# %% tags=["parameters"]
profile = "quick"

# %%
import pandas as pd

from ssconv_lib import effective, fieldjudge, fieldlearned, fieldnets, fieldplots, fieldstep
from ssconv_lib import fieldtables, fieldviews
from ssconv_lib import paper, readable, sources, tables
from ssconv_lib.book import Chapter

chapter = Chapter("05", profile)
chapter.heading()

# %% [markdown]
# ## The wiring: what can change a unit at all
#
# From the paper's blue box, the units under the pixels 96 to 127 of each axis, we send a gradient back through a
# forward in which nothing cancels: all weights equal and positive, every ReLU open, a product depending on both
# factors. Where it arrives, a pixel can change a unit in the box. (The tests hold this to brute force, pixel by
# pixel.)

# %%
alpha = paper.ALPHA_TAKEN[3]
images = fieldnets.noise(16)
models = fieldnets.trio(alpha, images)
reached = fieldnets.reaches(models)
chains = fieldnets.classical_chain(models["ResNet50"])
reach = fieldtables.reach_table(reached, chains)
chapter.table(reach, "reach", reach.round(4))

# %% [markdown]
# `size` is that of one plain unit, in pixels; then come the plain network's first and last pixel, and the share of
# the image. One block of ss convolution, or one gate, opens the view. The stem and its pooling stay shut: the stem is
# left plain, and of its three channels ⌊3α⌋ = 0 would be shuffled.

# %%
layers = ["conv1", "layer1.0", "layer2.1", "layer3.1", "layer4.0"]
shown = {name: {layer: maps[layer] for layer in layers} for name, maps in reached.items()}
figure = fieldplots.map_grid(shown, fieldnets.BOX, label="reached")
chapter.figure(figure, fieldplots.grid_data(shown), "reach_maps", caption=False)

# %% [markdown]
# ## The gradient: how much each pixel counts
#
# In view is not in use. The effective field (Luo et al. 2016) is the squared gradient, in the mean over images. These
# are of noise, the networks untrained, their batch norm with these images' statistics. How much of it lies outside
# the plain network's field?

# %%
layers = ["layer1.0", "layer1.2", "layer2.1", "layer2.3", "layer3.0", "layer3.1"]
plain = reached["ResNet50"]
fields = {}
for name, model in models.items():
    fields[name] = effective.effective_field(model, layers, images[:8], box=fieldnets.BOX)
outside = fieldtables.mass_outside(fields, plain)
paths = fieldtables.path_shares(models["ResNet50 + ss"], plain, layers, "paths of ResNet50 + ss")
outside = pd.concat([outside, paths])
figure = fieldplots.mass_outside(outside)
chapter.figure(figure, outside, "mass_outside", caption=False)

# %% [markdown]
# Through the shuffle come a few percent, further up a quarter: about the share of *paths* from there, a matter of α
# and depth. Through the gates come hundreds of times less, though Fig. 3 paints both in the same red.
#
# ## Does the view depend on where one looks from?
#
# Fig. 4 says: with gates no, with shuffling yes. We compare what one channel sees outside from two boxes, by
# intersection over union of effective fields; and from one box on two sets of images, for the noise.

# %%
other = fieldnets.untrained("resnet50", alpha, images, pi_seed=1)
kinds = {"ss": [models["ResNet50 + ss"], other], "SE": [models["SEResNet50"]]}
location = fieldtables.location(kinds, models["ResNet50"], images, "layer1.0")
chapter.table(location, "location", readable.readable(location))

# %% [markdown]
# So it is. Through gates two boxes see the same; through a shuffle, as little in common as networks with different
# permutations. The exact reach can't tell: it is everything for both.
#
# ## Eq. 4: the paper's map
#
# Images are multiplied by σ(R). R is to keep the features φ in the box, where M is 1, at a price β for what stays
# visible:
#
# R* = argmin ‖M · (φ(σ(R) · x) − φ(x))‖² + β ‖σ(R)‖₁
#
# One R serves all images. (The printed bracket is set differently; the gradient is the same.)

# %%
sources.show(fieldstep.OptimisedField.step)

# %%
found = chapter.fields("layerwise")
maps = chapter.field_maps("layerwise")
trained = fieldviews.drawn(found[found.trained], maps)
chapter.missing("layerwise")

# %%
if trained:
    first = found.iloc[0]
    box = (first.box_low, first.box_high)
    where = f"box {first.box_low} to {first.box_high}"
    print(f"{tables.source(found)}; {where}, {first.iterations} iterations, batches of {first.batch}")
    figure = fieldplots.map_grid(fieldviews.some_layers(trained), box)
    chapter.figure(figure, fieldplots.grid_data(trained), "figure3")

# %% [markdown]
# Fig. 6, 7 and 8 show every layer of each network:

# %%
names = ("figure6", "figure7", "figure8")
for name, network in zip(names, trained, strict=False):
    one = {network: trained[network]}
    figure = fieldplots.map_grid(one, box)
    chapter.figure(figure, fieldplots.grid_data(one), name)

# %% [markdown]
# A pixel hidden by a little, 1 − σ, changes the features by about (1 − σ)² s, where s is its part of the effective
# field. So the best σ is 1 − β/2s: above a half wherever s exceeds β. With β = 10⁻⁶ the map is nearly the exact
# reach, however little a pixel counts.
#
# Fig. 5 (a) counts the values with σ(R) ≥ 1/2. R starts at 0, where σ is just that; so the strict count stands beside
# it.

# %%
exact = fieldviews.exact(chapter.profile, "layerwise")
sizes = fieldviews.optimised_sizes(found, exact)
if len(sizes):
    figure = fieldplots.sizes(sizes[sizes.trained])
    chapter.figure(figure, sizes, "figure5a")

# %% [markdown]
# ## Learned, or built in?
#
# The paper's size before and after training, beside the exact reach, and the trained map's intersection over union
# with that (`iou`), at every profile that has records:

# %%
having = chapter.with_fields("layerwise")
summary = fieldviews.summaries(having, "layerwise")
chapter.table(summary, "optimised", readable.readable(summary))

# %% [markdown]
# The large view is there before anything is learned: Fig. 5 (a) is a property of the wiring. What is learned is how
# much to make of it. The effective field's share outside, of the same networks on images of noise, one network each:

# %%
learned = fieldlearned.learned(having, "layerwise")
if len(learned):
    figure = fieldplots.learned(learned)
    chapter.figure(figure, learned, "learned", caption=False)

# %% [markdown]
# Where the task can't be solved otherwise, training turns to the outside. On CIFAR-10 it turns away: WRN-10-2 comes
# to rest on its classical field, and hardly listens to its shuffled channels. The three answers side by side:

# %%
network, measures = fieldlearned.measures(chapter.profile, "layerwise", trained)
if measures:
    own = summary[(summary.source == tables.source(found)) & (summary.model == network)]
    figure = fieldplots.beside(measures, box, agreement=own)
    chapter.figure(figure, fieldplots.grid_data(measures), "beside")

# %% [markdown]
# ## β, the start, and what replaces a pixel
#
# Channelwise, β is 10⁻¹². Where nothing depends on a pixel, only the penalty moves R, and Adam divides it by its size
# *plus ε*. That can be followed exactly:

# %%
penalties, epsilons, starts = [1e-6, 1e-12], [1e-8, 1e-16], [-3.0, 0.0, 3.0]
drift = fieldtables.drift(penalties, epsilons, starts, iterations=10_000)
chapter.table(drift, "drift", drift.round(3))

# %% [markdown]
# With the usual ε of 10⁻⁸, R stays at its start: whether such a pixel passes Fig. 4's threshold of .1 is decided by
# R₀ alone. Ours start at −3, below it.

# %%
varied = chapter.fields("sensitivity")
settings = fieldviews.settings(varied, chapter.field_maps("sensitivity"))
for name, panels in settings.items():
    network = fieldviews.network_text(varied.model.iloc[0], varied.alpha.iloc[0])
    one = {network: panels}
    figure = fieldplots.map_grid(one, box)
    chapter.figure(figure, fieldplots.grid_data(one), f"sensitivity_{name}")

# %%
channelwise = chapter.fields("channelwise")
boxes = fieldviews.by_box(channelwise, chapter.field_maps("channelwise"))
if boxes:
    figure = fieldplots.channelwise(*boxes)
    chapter.figure(figure, channelwise, "figure4")

# %% [markdown]
# ## What an iteration costs
#
# The loop as one would first write it runs the whole network twice and forms all gradients; ours stops behind the
# layer and forms R's alone. Both in turn in one process, medians of the records:

# %%
cost = fieldviews.cost(found)
chapter.table(cost, "cost", readable.readable(cost))

# %% [markdown]
# ## Claim, evidence, verdict
#
# Set beforehand: "entire" and "almost 1" mean 99 %; what is outside is used if the interval of its share is above 0
# at every layer; two boxes see the same if they overlap by nine tenths of what one does with itself.

# %%
verdicts = [fieldjudge.growth_claim(reach)]
verdicts += fieldjudge.cover_claims(reach)
verdicts += fieldjudge.use_claims(outside)
verdicts += fieldjudge.location_claims(location)
verdicts += fieldjudge.optimised_claims(summary)
verdicts = pd.DataFrame(verdicts, columns=fieldjudge.COLUMNS)
chapter.table(verdicts, "verdicts")
