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
# Which ss convolutions matter? The paper zeroes the shuffled channels of one block of a trained ResNet50: Fig. 5 (b).
# But zeroing a channel hurts in any network, whatever it carries.
#
# **What you will see.** Fig. 5 (b), and beside each block what else could explain it.
#
# **What it costs.** `quick` asks the small networks of chapter 2: a minute, once they are trained. The other profiles
# draw stored answers, without images.

# %% tags=["parameters"]
profile = "quick"

# %%
import pandas as pd
import torch
from torch import nn

from ssconv_lib import SSConv2d, ablation, ablationanswers, ablationjudge
from ssconv_lib import ablationplots, ablationtables, judge, paper, pictures
from ssconv_lib.book import Chapter
from ssconv_lib.models import create_model

chapter = Chapter("06", profile)
chapter.heading()

# %%
for name in ("ablation_conv4_4", "ablation_middle", "ablation_conv2_1"):
    claim = paper.claim(name)
    print(f"{claim['where']}: {claim['quote']}\n")

# %% [markdown]
# ## Eq. 5, and what else one could do
#
# Eq. 5 puts 0 in place of the shuffled channels. We zero those that a layer's layout really shuffles, by a hook that
# goes when its block of code ends, or breaks.
#
# To see each treatment, here is a layer that passes on its input: four pictures shuffled, four not.

# %%
layer = SSConv2d(8, 8, 1, alpha=0.5, spatial_size=24, bias=False, seed=0)
nn.init.dirac_(layer.weight)
model = nn.Sequential(layer)
x = pictures.house(24).mean(0).expand(1, 8, -1, -1).clone()  # (1, 8, 24, 24)
shown = {}
for how in ablation.TREATMENTS:
    with torch.no_grad(), ablation.treated(model, ["0"], how):
        shown[how] = model(x)[0]
figure = ablationplots.treatments(shown, shuffled=0, other=7)
data = pd.DataFrame([{"treatment": how, "mean": of[0].mean().item()} for how, of in shown.items()])
chapter.figure(figure, data, "treatments", caption=False)

# %% [markdown]
# - **As many others zeroed**: only what Eq. 5 costs beyond that can be due to the shuffle.
# - **Un-shuffled**: each value in its own place; the view from afar is gone.
# - **The channel's mean**: a view from afar without places.
# - **Another π**, or a fresh one in each forward: scattered as before, but to places unknown to the weights.
#
# What comes behind was trained for what the channels held, batch norm's statistics too: so we also estimate these
# anew, on training images.
#
# Blocks, conv2_1 to conv4_1 in a WRN as in a ResNet, differ in how much there is to zero:

# %%
doses = []
for name, number in (("resnet50", 3), ("wrn10_2", 2)):
    network = create_model(name, num_classes=10, alpha=paper.ALPHA_TAKEN[number])
    doses.append(ablationtables.doses(network).assign(network=name))
doses = pd.concat(doses)
chapter.table(doses, "doses")

# %% [markdown]
# ## Fig. 5 (b), with its controls
#
# Points of accuracy lost, against the intact network on the same images. The 95 % intervals are over images, by a
# paired bootstrap {cite:p}`efron1979bootstrap`: only images on which two networks disagree tell them apart.

# %%
own = chapter.probes("ablation")
table = ablationtables.ablation_table(own)
if len(table):
    figure = ablationplots.block_drops(table)
    chapter.figure(figure, table, "figure5b")
chapter.missing("ablation")

# %% [markdown]
# On the generated task (`quick`, November 2026) all blocks zeroed or un-shuffled leave a network at chance. Of one
# block, most of the drop is a shock to batch norm {cite:p}`ioffe2015batch`: with new statistics, of the intact
# network as well, far less is left, since other blocks still see far. Another permutation costs next to nothing, even
# a fresh one each forward: values must come from anywhere afar. Of WRN-10-2 on CIFAR-10 (`laptop`) most of the drop
# is that shock, too. But nothing comes near chance, and another permutation costs more than the paper's gain. All
# blocks at once:

# %%
found = chapter.probe_evidence("ablation") or [own]
everything = pd.concat([ablationtables.ablation_table(frame) for frame in found])
everything = everything[(everything["block"] == ablationanswers.block_text(ablation.ALL))]
chapter.table(everything, "drops", ablationtables.shown(everything))

# %% [markdown]
# ## Is it the shuffle, or just a channel less?
#
# What zeroing costs above a control, paired by image:

# %%
controls = pd.concat([ablationtables.control_table(frame) for frame in found])
chapter.table(controls, "controls", ablationtables.shown(controls))

# %% [markdown]
# ## Claim, evidence, verdict
#
# Intervals are over images, with batch norm's statistics kept as in the paper; a control must hold with new ones,
# too. **Reproduced**: each block that the claim is about has an interval above 0, in each network; for a control that
# is drawn, above every draw. **Not reproduced**: in most networks one lies below 0.

# %%
verdicts = [row for frame in found for row in ablationjudge.verdict_rows(frame)]
verdicts = pd.DataFrame(verdicts, columns=judge.COLUMNS)
chapter.table(verdicts, "verdicts")
