# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Ablation: what do the shuffled channels carry?
#
# The paper asks which of its ss convolutions matter. It takes a trained ResNet50, sets the shuffled channels of one
# block to zero, and reads the accuracy: Fig. 5 (b). Zeroing a channel hurts in any network, whatever the channel
# carries. So this chapter makes the figure anew, and puts beside each bar what else could explain it.
#
# **What you will see.** Fig. 5 (b) with its controls: as many *unshuffled* channels zeroed, the shuffle undone, the
# channel's mean in its place, another permutation; and all of it with batch norm's statistics kept, and estimated anew.
#
# **What it costs.** `quick` asks the small networks of chapter 2, on a thousand generated images: seconds, once these
# are trained. The other profiles draw stored answers, without images.

# %% tags=["parameters"]
profile = "quick"

# %%
import pandas as pd

from ssconv_lib import ablation, ablationplots, ablationtables
from ssconv_lib import judge, paper, readable, sources
from ssconv_lib.book import Chapter

chapter = Chapter("06", profile)
chapter.heading()

# %% [markdown]
# ## What the paper says
#
# Fig. 5 (b) prints no values. The text has three sentences on it:

# %%
for name in ("ablation_conv4_4", "ablation_middle", "ablation_conv2_1"):
    claim = paper.claim(name)
    print(f"{claim['quote']}\n")

# %% [markdown]
# ## Eq. 5, and what else one could do
#
# Eq. 5 replaces P of the shuffled channels by 0; we zero those that a layer's layout really shuffles. Nothing in the
# network is rewritten for it: a hook hands each layer another input, such that its own P gives what is wanted, and
# goes when the cell ends, or breaks. This is the function that says what each treatment does:

# %%
sources.show(ablation.treated)

# %% [markdown]
# Why the controls? A trained network has set its weights, and batch norm's means and variances, for what the channels
# hold. Take any channel away, and what comes behind sees inputs that it was not trained for.
#
# - **As many others zeroed** costs what zeroing costs. Only what Eq. 5 costs beyond that is due to the shuffle.
# - **Un-shuffled** leaves every value in, at its own place: what the network loses is the wiring that it learned with.
# - **The channel's mean** keeps what needs no place, a global context.
# - **Another π** keeps the values, scattered as before, but not where the weights expect them.
# - **Statistics estimated anew**, on training images, remove the shock to batch norm.
#
# Deeper blocks have more channels, so at one α they lose more of them; a comparison between blocks has to live with
# that, one between treatments of a block hasn't.

# %%
own = chapter.probes("ablation")
found = chapter.probe_evidence("ablation")
chapter.missing("ablation")

# %% [markdown]
# ## Fig. 5 (b), with its controls
#
# Points of accuracy lost when a block is treated, against the intact network on the same images. Bars are 95 %
# intervals over the test images, by a paired bootstrap: an image that both get wrong says nothing about their
# difference, so what is resampled are the images on which they disagree.

# %%
table = ablationtables.ablation_table(own)
if len(table):
    figure = ablationplots.block_drops(table)
    chapter.figure(figure, table, "figure5b")

# %% [markdown]
# On the generated task the answer is plain: where a network has solved it, all blocks zeroed or un-shuffled leave it at
# chance, 50 %, and as many other channels zeroed cost little. But another permutation costs nothing, not even a new one
# in every forward: the network needs values from afar, and doesn't care from where. The fixed wiring that the paper
# likens to horizontal connections is fixed, but not used as a wiring.
#
# Each profile's drops as numbers; what real images say stands here too:

# %%
everything = pd.concat([ablationtables.ablation_table(frame) for frame in found or [own]])
chapter.table(everything, "drops", readable.readable(everything))

# %% [markdown]
# ## Is it the shuffle, or just a channel less?
#
# What zeroing costs beyond each control, paired by image. A positive number says that the shuffled channels were worth
# more than the control leaves: more than as many others, or more than their own values without the shuffle.

# %%
controls = pd.concat([ablationtables.control_table(frame) for frame in found or [own]])
chapter.table(controls, "controls", readable.readable(controls))

# %% [markdown]
# ## Claim, evidence, verdict
#
# The intervals are over images of one test set, for each network by itself; a network trained with another seed may
# differ by more. **Reproduced** means that the interval excludes 0 in the claim's direction, for a claim about all
# blocks in each of them; **not reproduced**, that it excludes 0 in the other one, corrected for the number of blocks.
# Otherwise we **cannot tell**, and the tables say which drop could have been seen (`detectable`).

# %%
verdicts = [row for frame in found for row in ablationtables.verdict_rows(frame)]
verdicts = pd.DataFrame(verdicts, columns=judge.COLUMNS)
chapter.table(verdicts, "verdicts")
