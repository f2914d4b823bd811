"""What a job needs: platform, vCPUs, memory, disk, GPUs; and what an hour of that costs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets

from ezbatch import cost, rules
from ezbatch.errors import Problem
from ezbatch.options import parse_duration, parse_memory, parse_storage, parse_vcpus
from ezbatch.planning import count_text, size_text
from ezbatch.workflow import EZBatchJob
from ezbatch_jupyter.forms._parts import CROSS, Choice, Entry, Fold, Form, Slot, box, markup, place, under
from ezbatch_jupyter.forms.arrays import ArrayInput

__all__ = ["ResourcesForm", "short_duration"]

_SIZE = ("platform", "vcpus", "memory", "storage_size", "architecture", "gpus")
_TIMES = ("array", "retries", "timeout")
_PLATFORMS = [("Fargate", "FARGATE"), ("EC2", "EC2")]
_ARCHITECTURES: list[tuple[str, str | None]] = [("default", None), ("x86-64", "X86_64"), ("ARM64", "ARM64")]
_LABELS = {
    "platform": "Platform",
    "vcpus": "vCPU",
    "memory": "Memory",
    "storage_size": "Storage",
    "architecture": "Architecture",
    "gpus": "GPUs",
    "array": "Array",
    "retries": "Retries",
    "timeout": "Timeout",
}


def memory_text(memory: int) -> str:
    """Return a memory size as people write it, without losing any of it."""
    return f"{memory // 1024} GiB" if memory > 0 and memory % 1024 == 0 else f"{memory} MiB"


def short_duration(seconds: int) -> str:
    """Return a duration in the largest units that say it exactly, such as ``2h`` or ``1h30m``."""
    if seconds <= 0:
        return f"{seconds}s"
    text = ""
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        text += f"{count}{unit}" if count else ""
    return text


def nearest_memory(vcpus: float, memory: int) -> int:
    """Return the memory nearest to one that Fargate offers with the vCPUs; of two as near, the larger."""
    return min(rules.FARGATE_MEMORY[vcpus], key=lambda offered: (abs(offered - memory), -offered))


def _optional(read: Any) -> Any:  # noqa: ANN401 - a reader, and one that also takes nothing
    return lambda text: read(text) if text.strip() else None


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number: write it in digits") from None


def _storage(text: str) -> int | None:
    found = parse_storage(text)
    return None if found == cost.FREE_STORAGE else found


def _shown(value: object) -> str:
    return "" if value is None else str(value)


class ResourcesForm(Form):
    """Platform, vCPUs, memory, disk, GPUs, array, retries and timeout of a job, with their cost.

    Parameters
    ----------
    job : EZBatchJob, optional
        What to begin with.
    """

    label = "Resources"

    def __init__(self, job: EZBatchJob | None = None) -> None:
        super().__init__()
        self._aside: dict[str, Any] = {}
        self._said = ""
        self._bad: Sequence[Problem] = ()
        self.platform: Choice[str] = Choice(
            "Platform", _PLATFORMS, self._platform_chosen, kind="ez-above ez-toggle", make=_radios
        )
        sizes = [(f"{vcpus:g}", float(vcpus)) for vcpus in rules.FARGATE_MEMORY]
        self.vcpus_choice: Choice[float] = Choice(
            "vCPU", sizes, self._vcpus_chosen, kind="ez-above", odd=lambda v: f"{v:g} (not on Fargate)"
        )
        self.memory_choice: Choice[int] = Choice(
            "Memory",
            [("2 GiB", 2048)],
            self.changed,
            kind="ez-above",
            odd=lambda m: f"{memory_text(m)} (not with these vCPUs)",
        )
        self.vcpus_entry: Entry[float] = self._entry("vCPU", "vcpus", parse_vcpus, lambda v: f"{v:g}")
        self.memory_entry: Entry[int] = self._entry("Memory", "memory", parse_memory, memory_text)
        self.storage: Entry[int | None] = self._entry(
            "Storage, GiB", "storage_size", _optional(_storage), _shown, placeholder="20"
        )
        self.architecture: Choice[str | None] = Choice(
            "Architecture", _ARCHITECTURES, self.changed, kind="ez-above", odd=str
        )
        self.gpus: Entry[int | None] = self._entry("GPUs", "gpus", _optional(_count), _shown, placeholder="none")
        self.size_slot = Slot(always=True)
        self.cost_line = ipywidgets.HTML()
        self.cost_line.add_class("ez-cost")
        sizes_box = box(
            self.platform.widget,
            self.vcpus_choice.widget,
            self.vcpus_entry.widget,
            self.memory_choice.widget,
            self.memory_entry.widget,
            self.storage.widget,
            self.architecture.widget,
            self.gpus.widget,
            kind="ez-sizes",
        )
        self.size = box(
            _caption("Size", "ez-capt"),
            box(sizes_box, self.size_slot.widget, kind="ez-stack"),
            kind="ez-field ez-group",
        )
        self.cost = box(_caption("Cost"), self.cost_line, kind="ez-field")

        self.array = ArrayInput(self.changed)
        self.retries: Entry[int] = Entry("Retries", "retries", lambda t: _count(t or "0"), str, self.changed)
        self.retries.widget.add_class("ez-short")
        self.timeout: Entry[int | None] = Entry(
            "Timeout", "timeout", _optional(parse_duration), lambda v: "" if v is None else short_duration(v),
            self.changed, placeholder="none; as in 90s, 15m, 2h", kind="ez-short",
        )  # fmt: skip
        self.retries_slot, self.timeout_slot = Slot(), Slot()
        self.times = Fold(
            "Array, retries, timeout",
            self.array.widget,
            box(self.retries.widget, self.retries_slot.widget, kind="ez-beside ez-group"),
            box(self.timeout.widget, self.timeout_slot.widget, kind="ez-beside ez-group"),
        )
        head = ipywidgets.HTML("<h3>Resources</h3>")
        self.section = box(box(head, kind="ez-sechead"), self.size, self.cost, kind="ez-sec")
        self.widget = box(self.section, self.times.widget, kind="ez-stack")
        self.local = False
        self.value = {name: getattr(job or EZBatchJob("", ""), name) for name in (*_SIZE, *_TIMES)}

    def _entry(
        self,
        label: str,
        where: str,
        read: Callable[[str], Any],
        write: Callable[[Any], str],
        placeholder: str = "",
    ) -> Entry[Any]:
        return Entry(label, where, read, write, self.changed, kind="ez-above", placeholder=placeholder)

    @property
    def fargate(self) -> bool:
        """Whether the size is chosen from Fargate's."""
        return self.platform.value == "FARGATE"

    @property
    def value(self) -> dict[str, Any]:
        """The fields of the job that this form edits."""
        vcpus = self.vcpus_choice.value if self.fargate else self.vcpus_entry.value
        return {
            "platform": self.platform.value,
            "vcpus": int(vcpus) if float(vcpus).is_integer() else vcpus,
            "memory": self.memory_choice.value if self.fargate else self.memory_entry.value,
            "storage_size": self.storage.value,
            "architecture": self.architecture.value,
            "gpus": self.gpus.value,
            "array": self.array.value,
            "retries": self.retries.value,
            "timeout": self.timeout.value,
        }

    @value.setter
    def value(self, fields: Mapping[str, Any]) -> None:
        with self._silently():
            self._aside = {}
            self._said = ""
            self.platform.value = fields["platform"]
            self._set_size(fields["vcpus"], fields["memory"])
            self.storage.value = fields["storage_size"]
            self.architecture.value = fields["architecture"]
            self.gpus.value = fields["gpus"]
            self.array.value = fields["array"]
            self.retries.value = fields["retries"]
            self.timeout.value = fields["timeout"]
        self._refresh()

    def _set_size(self, vcpus: float, memory: int) -> None:
        offered = [(memory_text(m), m) for m in rules.FARGATE_MEMORY.get(vcpus, ())]
        self.vcpus_choice.value = float(vcpus)
        self.memory_choice.offer(offered, memory)
        self.vcpus_entry.value = vcpus
        self.memory_entry.value = memory

    def _vcpus_chosen(self) -> None:
        vcpus, memory = self.vcpus_choice.value, self.memory_choice.value
        self._said = ""
        if vcpus in rules.FARGATE_MEMORY:
            kept = nearest_memory(vcpus, memory)
            if kept != memory:
                self._said = (
                    f"{memory_text(memory)} is not offered with {vcpus:g} vCPU: memory is now {memory_text(kept)}. "
                )
            memory = kept
        with self._silently():
            self._set_size(vcpus, memory)
        self.changed()

    def _platform_chosen(self) -> None:
        """Bring the size to what the platform has, put aside what it has not, and say so."""
        said: list[str] = []
        with self._silently():
            vcpus, memory = (
                (self.vcpus_entry.value, self.memory_entry.value)
                if self.fargate
                else (self.vcpus_choice.value, self.memory_choice.value)
            )
            if self.fargate:
                if memory not in rules.FARGATE_MEMORY.get(vcpus, ()):
                    vcpus, memory = rules.nearest_fargate_sizes(vcpus, memory)[0]
                    said.append(f"the nearest size of Fargate is {size_text(vcpus, memory)}")
                self._swap(("gpus",), ("storage_size", "architecture"), said)
            elif self.platform.value == "EC2":
                whole = max(1, round(vcpus))
                if whole != vcpus:
                    said.append(f"EC2 has whole vCPUs: now {whole}")
                vcpus, memory = whole, max(memory, rules.MIN_EC2_MEMORY)
                self._swap(("storage_size", "architecture"), ("gpus",), said)
            self._set_size(vcpus, memory)
        text = "; ".join(said)
        self._said = f"{text[:1].upper()}{text[1:]}. " if said else ""
        self.changed()

    def _swap(self, away: Sequence[str], back: Sequence[str], said: list[str]) -> None:
        parts: dict[str, Any] = {"storage_size": self.storage, "architecture": self.architecture, "gpus": self.gpus}
        for name in away:
            part = parts[name]
            if part.value is not None or getattr(part, "error", None) is not None:
                self._aside[name] = part.value
                said.append(f"{_LABELS[name].lower() if name != 'gpus' else 'GPUs'} left out")
                part.value = None
        for name in back:
            if name in self._aside:
                parts[name].value = self._aside.pop(name)

    # What is shown

    def errors(self) -> list[Problem]:
        """Return what cannot be read."""
        entries: list[Any] = [self.storage, self.gpus, self.array, self.retries, self.timeout]
        if not self.fargate:
            entries += [self.vcpus_entry, self.memory_entry]
        return [entry.error for entry in entries if entry.error is not None]

    def problems(self) -> list[Problem]:
        """Return what is wrong with the resources alone."""
        return [*self.errors(), *EZBatchJob("image", "true", **self.value).problems()]

    def show(self, problems: Sequence[Problem], *, local: bool = False) -> None:
        """Show the problems of the job that stand in these fields, and what follows from the size."""
        self._bad, self.local = problems, local
        for name, parts in {
            "platform": (self.platform,),
            "vcpus": (self.vcpus_choice, self.vcpus_entry),
            "memory": (self.memory_choice, self.memory_entry),
            "storage_size": (self.storage,),
            "architecture": (self.architecture,),
            "gpus": (self.gpus,),
            "retries": (self.retries,),
            "timeout": (self.timeout,),
        }.items():
            for part in parts:
                part.mark(under(problems, name))
        found = under(problems, *_SIZE)
        self.size_slot.show(found, self._note(), {p: f"{_labelled(p)}{p.what}. {p.remedy}." for p in found})
        self.array.show(under(problems, "array"))
        self.retries_slot.show(under(problems, "retries"))
        self.timeout_slot.show(under(problems, "timeout"))
        bad = under(problems, *_TIMES)
        fields = self.value
        size = self._children()
        said = [
            "no array" if size is None else f"array of {size:,}",
            count_text(fields["retries"] + 1, "attempt"),
            "no timeout" if fields["timeout"] is None else f"{short_duration(fields['timeout'])}",
        ]
        wrong = ", ".join(dict.fromkeys(_LABELS[place(p)] for p in bad))
        self.times.say(wrong or ", ".join(said), bad=bool(bad))
        self._show_parts()
        self.cost_line.value = self._cost()

    def _show_parts(self) -> None:
        fargate, fields = self.fargate, self.value
        for part, shown in (
            (self.vcpus_choice, fargate),
            (self.memory_choice, fargate),
            (self.vcpus_entry, not fargate),
            (self.memory_entry, not fargate),
            (self.storage, fargate or fields["storage_size"] is not None or self.storage.error),
            (self.architecture, fargate or fields["architecture"] is not None),
            (self.gpus, not fargate or fields["gpus"] is not None or self.gpus.error),
        ):
            display = None if shown else "none"
            if part.widget.layout.display != display:
                part.widget.layout.display = display

    def _refresh(self) -> None:
        self.show(self._bad if self._listeners else self.problems(), local=self.local)

    def _note(self) -> str:
        if not self.fargate:
            text = "Memory as in 16G, or a number of MiB. The compute environment gives disk and architecture."
            return markup(self._said + text)
        vcpus = self.vcpus_choice.value
        offered = rules.FARGATE_MEMORY.get(vcpus, ())
        text = ""
        if offered:
            steps = {b - a for a, b in itertools.pairwise(offered)}
            gib = [f"{m / 1024:g}" for m in offered]
            if len(steps) == 1:
                text = f"{gib[0]} to {gib[-1]} GiB in steps of {steps.pop() / 1024:g}"
            else:
                text = f"{', '.join(gib[:-1])} or {gib[-1]} GiB"
            text = f"With {vcpus:g} vCPU, Fargate offers {text}. "
        return markup(f"{self._said}{text}Storage is 20 to 200 GiB. GPUs need EC2.")

    def _children(self) -> int | None:
        return EZBatchJob("", "", array=self.array.value).array_size

    def _cost(self) -> str:
        fields = self.value
        try:
            each = cost.hourly(fields["vcpus"], fields["memory"], fields["storage_size"], fields["architecture"])
        except (KeyError, TypeError):
            return '<div class="ez-note">no price is known for this architecture</div><div class="ez-note"></div>'
        count = self._children() or 1
        attempts = fields["retries"] + 1
        several = " each" if count > 1 else ""
        text = f"<b>{cost.dollars(each.total)}</b> an hour{several}"
        if fields["timeout"]:
            most = each.of(fields["timeout"]) * attempts * count
            why = [f"its {short_duration(fields['timeout'])} timeout"]
            if attempts > 1:
                why.append(f"{attempts} attempts")
            if count > 1:
                why.append(f"{count:,} children")
            text += f", at most <b>{cost.dollars(most)}</b> within {f' {CROSS} '.join(why)}"
        else:
            text += ", no limit without a timeout"
        parts = [f"vCPU {cost.dollars(each.vcpu)}", f"memory {cost.dollars(each.memory)}"]
        if each.storage:
            parts.append(f"storage above 20 GiB {cost.dollars(each.storage)}")
        prices = cost.PRICES
        about = f"Fargate, {prices.region}, prices of {prices.date}; data transfer, S3, logs and taxes left out"
        if not self.fargate:
            about = f"EC2 bills instances: this is what Fargate would ask ({prices.region}, {prices.date})"
        if self.local:
            about = f"Nothing is billed on this machine. {about}"
        return (
            f'<div class="ez-costs"><span>{text}</span><span class="ez-note">{markup(", ".join(parts))}</span></div>'
            f'<div class="ez-note">{markup(about)}.</div>'
        )


def _labelled(problem: Problem) -> str:
    field = place(problem)
    if field in ("vcpus", "memory") and "no size of" in problem.what:
        return ""
    return f"{_LABELS.get(field, field)}: "


def _radios(description: str) -> Any:  # noqa: ANN401 - a widget
    return ipywidgets.RadioButtons(description=description, orientation="horizontal", tooltip=description)


def _caption(text: str, kind: str = "") -> Any:  # noqa: ANN401 - a widget
    made = ipywidgets.HTML(markup(text))
    for name in ["ez-caption", *kind.split()]:
        made.add_class(name)
    return made
