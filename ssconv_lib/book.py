"""What every chapter of the book needs: its profile, its records, and a place for its tables and figures."""

import warnings

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, Markdown, display
from matplotlib.figure import Figure
from torch import Tensor

from . import figures, study
from .fieldtask import make_missing
from .fieldweights import train_needed
from .files import write_whole
from .pagetable import as_html
from .paths import results_dir
from .plan import Profile
from .probetask import ask_missing
from .speed import measure_missing
from .workers import train_missing


class Chapter:
    """A chapter at a profile; its results are `results/<profile>/{tables,figures}/<number>_<name>.*`.

    Args:
        number: The chapter's two digits, as in its file's name.
        profile: A profile's name, or the path of a TOML file.
    """

    def __init__(self, number: str, profile: str) -> None:
        warnings.showwarning = lambda message, *_: print(f"warning: {message}")  # no paths in a notebook
        warnings.filterwarnings("ignore", message="IProgress not found")  # what timm imports asks for a widget
        figures.use_style()
        self.number = number
        self.profile = study.load_profile(profile)
        self.folder = results_dir() / self.profile.name

    def heading(self) -> Markdown:
        """The profile in force, in words."""
        return Markdown(
            f"**Profile in force: `{self.profile.name}`** ({self.profile.title}; {self.profile.hardware}). "
            f"The tables and figures of this page go to `results/{self.profile.name}/`."
        )

    def records(self, name: str) -> pd.DataFrame:
        """A study's records, a row each (see `study.frame`); in `quick`, what is missing is trained first.

        A study that the profile doesn't have gives the columns without a row.
        """
        if name not in self.profile.studies:
            return study.empty_frame()
        if self.profile.trains_in_chapter:
            outcome = train_missing(self.profile, name)
            if outcome.failed or outcome.left:
                raise RuntimeError(f"not all runs of {name} ended: {outcome.failed or outcome.left}")
        return study.frame(self.profile, name)

    def histories(self, name: str) -> pd.DataFrame:
        """A study's learning curves (see `study.histories`), of what is stored; none if the profile doesn't have it."""
        return study.histories(self.profile, name) if name in self.profile.studies else pd.DataFrame()

    def evidence(self, name: str) -> list[pd.DataFrame]:
        """A study's records at each profile that has some: the project's, cheapest first, and the one in force."""
        frames = [study.frame(profile, name) for profile in self._profiles() if name in profile.studies]
        return [frame for frame in frames if len(frame)]

    def speeds(self, name: str) -> pd.DataFrame:
        """A study of speed at each profile that has it, an arm a row (see `study.speed_frame`): the evidence of all.

        In `quick`, what this machine has not measured yet is measured first.
        """
        if self.profile.trains_in_chapter and name in self.profile.speed_studies:
            measure_missing(self.profile, name)
        with_study = [profile for profile in self._profiles() if name in profile.speed_studies]
        frames = [study.speed_frame(profile, name) for profile in with_study]
        return pd.concat([frame for frame in frames if len(frame)] or [study.empty_speed_frame()], ignore_index=True)

    def fields(self, name: str) -> pd.DataFrame:
        """A study of optimised receptive fields, a row each (see `study.field_frame`).

        In `quick`, what is missing is made first, after the networks that it needs. A study that the profile doesn't
        have gives the columns without a row.
        """
        if name not in self.profile.field_studies:
            return study.empty_field_frame()
        if self.profile.trains_in_chapter:
            lacking = study.field_missing(self.profile, name)
            train_needed(self.profile, name, [run.network for run in lacking if run.trained])
            outcome = make_missing(self.profile, name)
            if troubles := outcome.failed or outcome.waiting or outcome.left:
                raise RuntimeError(f"not all receptive fields of {name} were made: {troubles}")
        return study.field_frame(self.profile, name)

    def field_maps(self, name: str) -> dict[str, Tensor]:
        """The maps of such a study by hash (see `study.field_maps`), of what is stored."""
        return study.field_maps(self.profile, name) if name in self.profile.field_studies else {}

    def with_fields(self, name: str) -> list[Profile]:
        """The profiles that have records of such a study: the project's, cheapest first, and the one in force."""
        having = [profile for profile in self._profiles() if name in profile.field_studies]
        return [profile for profile in having if len(study.field_frame(profile, name))]

    def probes(self, name: str) -> pd.DataFrame:
        """What the trained networks of a study of probes answer, a row a condition (see `study.probe_frame`).

        In `quick`, what is missing is made first, after the networks that it needs. A study that the profile doesn't
        have, or has no record of, gives the columns of `study.empty_probe_frame`, without those of conditions.
        """
        if name not in self.profile.probe_studies:
            return study.empty_probe_frame()
        if self.profile.trains_in_chapter:
            train_needed(self.profile, name, [run.network for run in study.probe_missing(self.profile, name)])
            outcome = ask_missing(self.profile, name)
            if troubles := outcome.failed or outcome.waiting or outcome.left:
                raise RuntimeError(f"not all probes of {name} were made: {troubles}")
        return study.probe_frame(self.profile, name)

    def probe_evidence(self, name: str) -> list[pd.DataFrame]:
        """The same of what is stored, at each profile that has some: the project's, cheapest first, and this one."""
        frames = [study.probe_frame(profile, name) for profile in self._profiles() if name in profile.probe_studies]
        return [frame for frame in frames if len(frame)]

    def with_probes(self, name: str) -> list[Profile]:
        """The profiles that have records of a study of probes, in the same order."""
        having = [profile for profile in self._profiles() if name in profile.probe_studies]
        return [profile for profile in having if len(study.probe_frame(profile, name))]

    def _profiles(self) -> list[Profile]:
        """The one in force and the project's, cheapest first; of others only those whose records are in git."""
        profiles = {known: study.load_profile(known) for known in study.profile_names()}
        profiles[self.profile.name] = self.profile
        return [one for one in profiles.values() if one is self.profile or not one.trains_in_chapter]

    def alphas(self, name: str) -> set[float]:
        """The α that a study plans; none if the profile doesn't have it."""
        return {run.alpha for run in self.profile.runs(name)} if name in self.profile.studies else set()

    def missing(self, name: str) -> Markdown:
        """How much of a study is there, and the command for the rest."""
        if name in self.profile.speed_studies:
            return self._unmeasured(name)
        if name in [*self.profile.field_studies, *self.profile.probe_studies]:
            return self._not_made(name)
        if name not in self.profile.studies:
            return Markdown(f"The profile `{self.profile.name}` has no study `{name}`.")
        planned, lacking = len(self.profile.runs(name)), len(study.missing(self.profile, name))
        text = f"Study `{name}`: {planned - lacking} of {planned} runs have a record."
        if lacking:
            text += f" To train the rest: `{self.profile.train_command(name)}` (after `make`: `.venv/bin/python`)."
        return Markdown(text)

    def _unmeasured(self, name: str) -> Markdown:
        """The same for a study of speed, which any machine may have measured."""
        row = study.status(self.profile).set_index("study").loc[name]
        text = f"Study `{name}`: {row['there']} of {row['planned']} cases have a record, of this machine or another."
        if not self.profile.trains_in_chapter:
            text += f" To measure on this one: `{self.profile.bench_command(name)}` (after `make`: `.venv/bin/python`)."
        return Markdown(text)

    def _not_made(self, name: str) -> Markdown:
        """The same for a study of receptive fields or of probes."""
        profile = self.profile
        if name in profile.field_studies:
            what, planned, command = "receptive fields", profile.field_runs(name), profile.fields_command(name)
            lacking = study.field_missing(profile, name)
        else:
            what, planned, command = "probes", profile.probe_runs(name), profile.probe_command(name)
            lacking = study.probe_missing(profile, name)
        text = f"Study `{name}`: {len(planned) - len(lacking)} of {len(planned)} {what} have a record."
        if lacking:
            text += f" To make the rest: `{command}` (after `make`: `.venv/bin/python`)."
        return Markdown(text)

    def rules(self, *rules: str) -> Markdown:
        """The rules by which a chapter judges, as a list."""
        return Markdown("\n".join(f"- {rule}" for rule in rules))

    def table(self, data: pd.DataFrame, name: str, show: pd.DataFrame | None = None) -> HTML | Markdown:
        """Save a table as CSV, and show it, or `show`, its form for readers."""
        path = self.folder / "tables" / f"{self.number}_{name}.csv"
        write_whole(path, data.to_csv(index=False, float_format="%.6g").encode())
        return Markdown("*No records for this table yet.*") if data.empty else as_html(data if show is None else show)

    def figure(self, figure: Figure, data: pd.DataFrame, name: str, *, caption: bool = True) -> None:
        """Save a figure with its data, and show it.

        Args:
            figure: The figure.
            data: What it shows.
            name: Of the files, without the chapter's number.
            caption: Write the profile's name into it; not for what several profiles are in, named one by one.
        """
        if caption:
            figures.caption_profile(figure, self.profile.name)
        figures.save(figure, data, self.folder / "figures" / f"{self.number}_{name}")
        _show(figure)


def _show(figure: Figure) -> None:
    """Show a figure in a notebook, once, at the size that it was drawn for, with words for who can't see it."""
    if get_ipython() is None:
        return
    plt.close(figure)  # or the kernel shows it again when the cell ends
    width = round(96 * figure.get_figwidth())  # 96 pixels of a page are an inch, however fine the picture
    display(figure, metadata={"image/png": {"alt": figures.alt_text(figure), "width": width}})
