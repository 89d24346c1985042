# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Method: what a convolution can't see, and what shuffling does about it
#
# A convolution looks through a small window. What lies outside is invisible to it, however useful it may be. The
# paper's remedy is short: before the convolution, take a few channels and permute their values over the whole image,
# by a permutation that is drawn once and then kept.
#
# **What you will see.** How much of an image a network sees, layer by layer, with and without shuffling; the shuffle
# at work on a real feature map, and one to play with; its equations beside the code that runs; how the paper's own
# code departs from them; and what it all costs.
#
# **What it costs.** Seconds on a laptop. Nothing is trained here.

# %% tags=["parameters"]
profile = "quick"

# %%
import pandas as pd
import torch
from IPython.display import Markdown
from torch import nn

from ssconv_lib import SSConv2d, convert_to_ssconv, demo, listing, paper, pictures, readable, receptive_field, sources
from ssconv_lib.book import Chapter
from ssconv_lib.convert import shuffle_summary
from ssconv_lib.cost import cost
from ssconv_lib.models import create_model

torch.set_num_threads(1)  # enough for one image at a time
chapter = Chapter("01", profile)
chapter.heading()

# %% [markdown]
# ## The window of a convolution
#
# One output of a 3×3 convolution depends on 3×3 pixels; a second layer sees 5×5, a third 7×7. This is the **receptive
# field**: the pixels that can change an output at all. It grows with depth, but slowly.
#
# It need not be estimated. We give a copy of the network positive weights, so that no two paths can cancel, and take
# the gradient of one output. It is zero exactly where a pixel can't matter, whatever the weights are.
#
# We do this for WRN-16-4 {cite:p}`zagoruyko2016wide`, a CIFAR network of the paper, without shuffling (*conv*) and
# with the share α of channels that the paper finds best (*ss*). Layers are named as in the code: `stage1.0.conv2` is
# the second convolution of the first block of stage 1.

# %%
networks = {}
for method, alpha in (("conv", 0), ("ss", 0.06)):
    torch.manual_seed(0)
    networks[method] = create_model("wrn16_4", num_classes=10, alpha=alpha)
modules = dict(networks["conv"].named_modules())
layers = [name for name, m in modules.items() if isinstance(m, nn.Conv2d) and "shortcut" not in name]
chain = [(modules[name].kernel_size[0], modules[name].stride[0]) for name in layers]
sides = {name: receptive_field.classical_size(chain[: i + 1]) for i, name in enumerate(layers)}
plain, shuffled = (receptive_field.reach(net, layers, (3, 32, 32)) for net in networks.values())
reach = pictures.reach_data(plain, shuffled, sides)
figure = pictures.receptive_field(pictures.house(32), plain, shuffled, reach, shown=layers[:6])
chapter.figure(figure, reach, "receptive_field")

# %% [markdown]
# Full colour is what the middle of a layer's output can see; the black box is the classical receptive field. Above,
# in the plain network, the two agree. Below, with ss convolution, they agree in two layers only: the stem is left
# plain, and the next layer has too few channels to shuffle one. Then the view opens. The squares scattered over the
# third picture are the small windows of the values that the shuffle brought in. One layer later the whole house is in
# sight.
#
# The plain network gets there too (lower plot), but most of its layers work without ever seeing the whole image.
#
# Now with the real weights: we redraw every pixel outside the black box. In the plain network, the output must not
# change by a single bit.

# %%
layer = "stage1.0.conv2"
image = pictures.house(32)
change = {m: receptive_field.change(net, layer, image, ~plain[layer]) for m, net in networks.items()}
seen = reach[reach.layer == layer].assign(change=[change["conv"], change["ss"]])
chapter.table(seen, "outside", show=seen.rename(columns={"change": "largest change from outside"}))

# %% [markdown]
# ## The shuffle, on a real feature map
#
# The map is what the first block of the plain network receives, for a smaller house: stem, batch norm, ReLU. Our
# layer shuffles a quarter of its channels, far more than the paper does, so that there is something to see. This is
# Fig. 1 (a) of the paper with a real permutation and real values. Blue frames mark the shuffled channels.

# %%
net, house = networks["conv"], pictures.house(24)
x = torch.relu(net.stage1[0].norm1(net.stem(house[None]))).detach()
options = {"padding": 1, "alpha": 0.25, "spatial_size": 24, "seed": 0}
ss = SSConv2d(16, 32, 3, **options)
after = ss.shuffle(x)
data = pictures.mosaic_data(x[0], after[0])
chapter.figure(pictures.mosaic(x[0], after[0], range(16)[ss.shuffled], columns=4), data, "fig1a")

# %% [markdown]
# The framed channels have turned to noise; the others are untouched. It only looks like noise: every value is still
# there, once, at another place, perhaps in another of the framed channels. And since the permutation is the same for
# every image, in training and in testing, a weight can learn what comes from where.
#
# Now slide a 3×3 kernel over this. In an untouched channel, one window reads nine neighbours. In the shuffled ones it
# reads values from all over the image: dots show where from, and lines lead there from the window in channel 1. **The
# same kernel mixes local detail with samples from everywhere.**

# %%
taps = pictures.window_data(ss, row=11, column=9)
chapter.figure(pictures.window(x[0], taps, other=8), taps, "window")

# %% [markdown]
# A **grouped** convolution cuts its channels into groups that don't see each other. If the first channels are
# shuffled, they crowd into the first groups, and all other groups stay as local as ever. So the paper interleaves:
# every q-th channel is shuffled. This is Fig. 1 (b), for four groups, a row each.

# %%
ss_grouped = SSConv2d(16, 32, 3, groups=4, **options)
after = ss_grouped.shuffle(x)
figure = pictures.mosaic(x[0], after[0], range(16)[ss_grouped.shuffled], columns=4, groups=4)
chapter.figure(figure, pictures.mosaic_data(x[0], after[0]), "fig1b")

# %% [markdown]
# ## Try it
#
# Choose α and a layout, then touch a value to see where it goes, or an output to see what its window reads. The
# permutations are those of `SSConv2d`.

# %%
demo.show()

# %% [markdown]
# ## The equations, and the code that runs
#
# Ss convolution is convolution, over channels $c$ and the offsets $R$ of the kernel, with $P$ in front:
#
# \begin{equation*}
# y_{i,j} = \sum_c \sum_{\Delta i, \Delta j \in R} w_{c, \Delta i, \Delta j} \cdot P(x_{c, i + \Delta i, j + \Delta j})
# \tag{1}
# \end{equation*}
#
# $P$ applies the permutation π to the first ⌊αC⌋ of C channels,
#
# \begin{equation*}
# P(x_{c,i,j}) = \begin{cases} \pi(x_{c,i,j}), & c \leq \lfloor \alpha C \rfloor, \\
# x_{c,i,j}, & \text{otherwise,} \end{cases}
# \tag{2}
# \end{equation*}
#
# or, in a grouped convolution, to every ⌊1/α⌋-th:
#
# \begin{equation*}
# P(x_{c,i,j}) = \begin{cases} \pi(x_{c,i,j}), & 0 \equiv c \bmod \lfloor 1/\alpha \rfloor, \\
# x_{c,i,j}, & \text{otherwise.} \end{cases}
# \tag{3}
# \end{equation*}
#
# Two readings are ours. The paper prints a capital C in Eq. 3's condition, which would then be the same for every
# channel; we read $c$. And channels count from 1: from 0, Eq. 2 would shuffle a channel even where ⌊αC⌋ is 0. (More
# in the [errata](errata.md).)
#
# Here is the library's source: which channels, the shuffle, the layer's forward.

# %%
from ssconv_lib.shuffle import channel_slice, spatial_shuffle

sources.show(channel_slice, spatial_shuffle, SSConv2d.forward)

# %% [markdown]
# `gather` is π: position k gets the value at `permutation[k]`, over all chosen channels at once. π is a buffer, so it
# is saved with the weights. The last line of `forward` is Eq. 1; where it is safe, the lines before give the same
# output without copying the input (chapter 4).
#
# Where ⌊αC⌋ is 0 the layer must be the plain convolution, to the last bit:

# %%
narrow, ordinary = SSConv2d(16, 32, 3, padding=1, alpha=0.06, spatial_size=24), nn.Conv2d(16, 32, 3, padding=1)
ordinary.load_state_dict(narrow.state_dict(), strict=False)
alpha_zero = torch.equal(narrow(x), ordinary(x))
print(f"{narrow.num_shuffled} channels shuffled; same output as nn.Conv2d to the last bit: {alpha_zero}")

# %% [markdown]
# ## The paper's own code
#
# Listing 1 of the paper is a PyTorch module; `ssconv_lib.listing` holds a shorter writing of it. Its state dict loads
# into `SSConv2d`, and without groups the two give the same outputs.

# %%
torch.manual_seed(0)
theirs = listing.ListingConv2d(16, 32, alpha=0.25, bias=True)
keys_before = list(theirs.state_dict())
expected = theirs(x)
ours = SSConv2d(16, 32, 3, **options)
ours.load_state_dict(theirs.state_dict())
same_as_listing = torch.equal(ours(x), expected)
print(f"keys before the first forward: {keys_before}\nand after it: {list(theirs.state_dict())}")
print(f"same outputs to the last bit: {same_as_listing}")

# %% [markdown]
# The two lists show a trap. Listing 1 draws π in the first forward, so a fresh module has no place for a saved one: a
# trained state dict fails to load with `strict=True`, and without it π is dropped in silence. `SSConv2d` draws π when
# it is built, from a generator of its own, so that weights and data of a seed stay the same with and without
# shuffling.
#
# A second difference goes deeper. For grouped convolutions Listing 1 calls `_group`, with the comment "shuffled_x is
# interleaved". Let us give it the channel numbers and see in which order they come out.

# %%
orders = pictures.group_data(channels=16, alphas=(0.25, 0.2), groups=4)
chapter.figure(pictures.groups_strip(orders), orders, "group")

# %% [markdown]
# Nothing is interleaved. `_group` puts the shuffled block in front of the others and flattens the result, so the
# block stays a block. Where the other channels fill whole blocks of that length, the order is that of Eq. 2,
# untouched. Where they don't, the first few unshuffled channels, as many as are left over, move to the end, and the
# others move up.
#
# The next table is for widths of ResNeXt-29 (2 groups) and ResNeXt-50 (32 groups) {cite:p}`xie2017aggregated`:
# shuffled channels, and how many groups hold at least one.

# %%
rows = []
for channels, groups, alpha in ((128, 2, 0.06), (256, 2, 0.06), (512, 2, 0.06), (256, 32, 0.04)):
    order = pictures.group_data(channels, (alpha,), groups)
    for version, part in order[order.shuffled].groupby("version"):
        counts = {"shuffled": len(part), "groups_reached": part.group.nunique()}
        rows.append({"channels": channels, "groups": groups, "alpha": alpha, "version": version, **counts})
reached = pd.DataFrame(rows)
reached["shown"] = [f"{row.shuffled} in {row.groups_reached}" for row in reached.itertuples()]
wide = reached.pivot(index=["channels", "groups", "alpha"], columns="version", values="shown").reset_index()
chapter.table(reached.drop(columns="shown"), "groups", show=wide.rename_axis(columns=None))

# %% [markdown]
# Eq. 3 reaches more groups, though not always all; at α = .06 it also shuffles more channels, because the two
# formulas round differently. An experiment on interleaving has to keep the two apart, as chapter 2 does.
#
# Does moving that block matter, at least? In ResNeXt, a 1×1 convolution and its batch norm come before. Renaming the
# channels between is free: sort the rows of the 1×1 and the entries of its batch norm. We build a narrow ResNeXt-29
# in Listing 1's layout, and the network of Eq. 2 with renamed channels.

# %%
from ssconv_lib.shuffle import listing_order

resnext = {}
for layout in ("listing", "leading"):
    resnext[layout] = create_model("resnext29_2x16d", num_classes=10, alpha=0.06, layout=layout)
for norm in (module for module in resnext["listing"].modules() if isinstance(module, nn.BatchNorm2d)):
    nn.init.normal_(norm.weight)  # as after training, and not all the same
resnext["leading"].load_state_dict(resnext["listing"].state_dict())
for block in resnext["leading"].modules():
    if isinstance(conv := getattr(block, "conv2", None), SSConv2d):
        numbers = torch.arange(conv.in_channels).view(-1, 1, 1)
        new = listing_order(numbers, conv.num_shuffled).flatten()
        for tensor in (block.conv1.weight, block.norm1.weight):
            tensor.data = tensor[new].detach()

# %%
images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
logits = [model.double().eval()(images) for model in resnext.values()]
renamed = torch.allclose(*logits, rtol=1e-9)
print(f"the two networks compute the same function: {renamed}")

# %%
eq2, eq3 = (paper.value(1, "resnext29_2x64d", "ss", layout=kind) for kind in ("leading", "interleaved"))
Markdown(
    "So in a grouped convolution Listing 1 is Eq. 2 with other names for its channels. Initial weights are drawn "
    "alike for all of them and training treats them alike, so the results have the same distribution. "
    f"Table 1 of the paper prints an error of {eq2} % with Eq. 2 and {eq3} % with Eq. 3. **If both rows came from this "
    "code at one α, their difference isn't interleaving**, but the spread from run to run. "
    "Which code was used we can't know; so the library has all three versions, and chapter 2 compares them."
)

# %% [markdown]
# ## What it costs
#
# A permutation has no weights, and moving a value multiplies nothing. So parameters and MACs (multiply-accumulates of
# convolutions and linear layers, counted while one image passes) should not depend on α.

# %%
rows = []
for name in ("wrn16_4", "densenet_bc_100_12", "resnext29_2x64d"):
    for alpha in (0, 0.06):
        model = create_model(name, num_classes=10, alpha=alpha)
        rows.append({"model": name, "alpha": alpha, **cost(model, (3, 32, 32))})
costs = pd.DataFrame(rows)
with_commas = {column: costs[column].map("{:,}".format) for column in costs.columns[2:]}
shown = costs.assign(**with_commas).drop(columns=["convs", "converted", "pi_bytes"])
chapter.table(costs, "cost", show=shown)

# %% [markdown]
# `converted` leaves out the stem and downsampling layers; `active` are those wide enough to shuffle a channel. The
# shuffles of one image move `moved` values, which is all that our layer writes; Listing 1's `cat` writes
# `listing_copies` values at the same α. Chapter 4 measures what that means in time and memory. What a layer does hold
# is π, eight bytes a value moved (`pi_bytes`), in the state dict too.

# %% [markdown]
# ## In your own model
#
# `SSConv2d` takes the arguments of `nn.Conv2d`, and α and the input's size. `convert_to_ssconv` replaces the
# convolutions of a whole model, here torchvision's ResNet-18 {cite:p}`he2016deep,torchvision2016`. Weights that are
# there stay.

# %%
from torchvision.models import resnet18

model = convert_to_ssconv(resnet18(num_classes=10), alpha=0.04, input_size=(3, 64, 64)).eval()
print(model(torch.zeros(2, 3, 64, 64)).shape, shuffle_summary(model))
model.layer1[0].conv2

# %% [markdown]
# Two things are not possible. π is drawn for one input size, so another is an error. And a mean of permutations is no
# permutation: averaging over buffers, as some tools for averaged weights {cite:p}`izmailov2018averaging` can,
# destroys π. The layer notices both, and says which layer it was.


# %%
def complaint(model, size):
    try:
        model(torch.zeros(1, 3, size, size))
    except ValueError as error:
        return f"{error}\n"


average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True).eval()
for seed in (0, 1):
    other = convert_to_ssconv(resnet18(num_classes=10), alpha=0.04, input_size=(3, 64, 64), seed=seed)
    average.update_parameters(other)
print(complaint(model, 96))
print(complaint(average, 64))

# %% [markdown]
# ## Claim, evidence, verdict
#
# All evidence is computed from the cells above. Whether a trained network uses what it can see, and whether that
# lowers the error, is for chapters 2, 6 and 7.

# %%
added = costs.groupby("model")[["parameters", "macs"]].agg(lambda column: column.iloc[-1] - column.iloc[0])
share = seen.set_index("method").fraction
reaches = share.ss > share.conv and change["conv"] == 0 < change["ss"]
groups = orders[orders.shuffled].groupby(["version", "alpha"]).group.nunique()
interleaves = groups["Listing 1"].equals(groups["Eq. 3"])
yes_no = {True: "reproduced", False: "not reproduced"}
verdicts = {
    "no_parameters": yes_no[not added.any(axis=None)],
    "alpha_zero": yes_no[alpha_zero],
    "outside_rf": f"can be seen: {yes_no[reaches]}; is used: chapters 2, 6, 7",
}

# %%
evidence = {
    "no_parameters": f"added parameters and MACs of {len(added)} networks: {added.abs().to_numpy().sum()}",
    "alpha_zero": f"same output as nn.Conv2d, to the last bit: {'yes' if alpha_zero else 'no'}",
    "outside_rf": f"{layer}: {share.ss:.0%} of the image in sight, plain {share.conv:.0%}; new pixels outside the "
    f"plain window change the output by up to {change['ss']:.2g}, plain {change['conv']:.2g}",
}
rows = [
    {**paper.claim(name)[["quote", "where"]], "evidence": evidence[name], "verdict": verdicts[name]}
    for name in evidence
]

# %%
comment = {"quote": "Its code says: “shuffled_x is interleaved”", "where": "Appendix A.2, Listing 1, in _group"}
comment["evidence"] = f"of 4 groups, Listing 1 reaches {groups['Listing 1'].tolist()}, Eq. 3 {groups['Eq. 3'].tolist()}"
comment["evidence"] += "; it computes Eq. 2 with renamed channels" if renamed else ""
rows.append({**comment, "verdict": yes_no[interleaves]})
table = pd.DataFrame(rows).rename(columns={"quote": "claim"})
chapter.table(table, "verdict", table.map(readable.plain))
