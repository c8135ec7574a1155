"""What is on the page: teach a class, ask about a picture or another input, look after the classes."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from html import escape
from typing import Any

import gradio as gr

from quickstudy.errors import DataError, QuickstudyError
from quickstudy.kinds.predictions import how_far
from quickstudy.learning.changes import UNKNOWN
from quickstudy.serve.decoding import Decoder
from quickstudy.serve.fields import Fields
from quickstudy.serve.service import Service
from quickstudy.serve.telling import parts_drawn, parts_said

_MOST_SHOWN = 500  # classes
_MOST_PICTURES = 60  # of a class
_NEAREST = 6
_FORGET = "Forget"
_ONCE_TAUGHT = "Once there are three examples in classes of two or more, it also says when"
_FIXED = "It knows the classes that it was trained on, and no others."
_KNOWN = "known answer"
_LOG = logging.getLogger(__name__)

CSS = """
.gradio-container {width: 100% !important; max-width: 1120px !important; margin: 0 auto !important}
.gradio-container .app {padding: 0 !important}
.gradio-container main {padding: 1rem !important}
#board {display: grid; grid-template: "teach ask" auto "classes ask" 1fr / 1fr 1fr; gap: 1rem; align-items: start}
#board.alone {grid-template: "ask" / minmax(0, 40rem)}
#teaching {grid-area: teach} #asking {grid-area: ask} #keeping {grid-area: classes}
@media (max-width: 800px) {
  #board:not(.alone) {grid-template: "teach" "ask" "classes" / minmax(0, 1fr)}
  .gradio-container main {padding: .5rem !important}
}
.card {min-width: 0 !important; padding: 1rem; border: 1px solid var(--border-color-primary); border-radius: 12px}
.html-container {padding: 0 !important}
#about {overflow-wrap: anywhere}
h1 small {font-size: .5em; font-weight: normal; color: #475569} .dark h1 small {color: #cbd5e1}
h1, .card h2, .card h3, .hint {margin: 0 !important}
.card h2 {font-size: 1.15rem}
.hint {color: #475569 !important}
.dark .hint {color: #cbd5e1 !important}
.says {margin: 0 !important; padding: .6rem .8rem; border-radius: 8px; background: var(--background-fill-secondary);
  border-left: 5px solid; overflow-wrap: anywhere}
.says.known {border-color: #15803d}
.says.unknown {border-color: #b45309}
.says.failed {border-color: #b91c1c}
#forget {white-space: normal; overflow-wrap: anywhere}
.says.answer {font-size: 1.15rem}
.near {display: grid; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: .6rem; margin-top: .4rem}
.near figure {margin: 0; overflow-wrap: anywhere}
.near.wide {grid-template-columns: repeat(auto-fill, minmax(150px, 1fr))}
.near .text {display: -webkit-box; -webkit-line-clamp: 6; -webkit-box-orient: vertical; overflow: hidden;
  border: .4rem solid var(--background-fill-secondary); border-radius: 6px; font-size: .85rem; line-height: 1.3;
  white-space: pre-wrap; overflow-wrap: anywhere; background: var(--background-fill-secondary)}
.near audio {width: 100%; height: 2rem}
img.drawn {max-width: 100%; border-radius: 6px}
.plain {white-space: pre-wrap; overflow-wrap: anywhere; max-height: 16rem; overflow-y: auto; font-size: .9rem;
  margin: 0 !important}
.near img, .near video, .near .none {width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 6px;
  margin: 0 !important; background: var(--background-fill-secondary)}
.near figcaption {font-size: .85rem; line-height: 1.3}
.classes {display: flex; flex-wrap: wrap; gap: .4rem; list-style: none; margin: 0 !important; padding: 0 !important;
  max-height: 15rem; overflow-y: auto}
.classes li {margin: 0 !important; padding: .25rem .7rem; border-radius: 1rem; overflow-wrap: anywhere;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary)}
:focus-visible {outline: 3px solid #1d4ed8 !important; outline-offset: 2px}
"""
HEAD = '<meta name="robots" content="noindex">'


def theme() -> Any:
    """Return the page's looks, with the fonts that a machine has."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["system-ui", "sans-serif"],
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
    )


def widgets(service: Service, decoder: Decoder) -> Any:
    """Return the page as Gradio's blocks; a model that learns no classes has no cards for them.

    Args:
        service: what answers.
        decoder: of what is dropped on it.
    """
    learns, kind, fields = service.by_class, service.kind, Fields(decoder)
    marks = service.marks  # which a page has no field for
    noun = fields.noun
    media = service.modality.shown_as or "image/jpeg"  # of models that a function of one's own reads pictures for

    def named() -> dict[str, int]:
        return {str(name): count for name, count in service.classes().result().items()}

    def listing() -> tuple[str, str, Any]:
        known = named()
        told = _about(service.about().result(), service.expected().result())
        return told, _listed(known), gr.Dropdown(choices=list(known)[:_MOST_SHOWN], value=None)

    @_plainly(1)
    def show(name: str | None) -> tuple[Any, ...]:
        return (_shown(name, service.thumbnails(name).result(), media) if name and name in named() else "",)

    @_plainly(4 + fields.places)
    def teach(request: gr.Request, name: str | None, *given: Any) -> tuple[Any, ...]:
        name = _named(name, "the class")
        inputs = fields.read(given)
        if not inputs and (not service.learns_names or name in named()):
            raise DataError(f"{'Type' if fields.typed else 'Choose'} one or more {noun}s of it first.")
        taught = service.teach(name, inputs, _visitor(request)).result()
        said = f"Learned. <b>{escape(name)}</b> has {_examples(taught.examples)} now."
        doubts = " ".join(f"But {escape(each)}." for each in taught.warnings)
        return _said(f"{said} {doubts}".strip(), "unknown" if doubts else "known"), *[None] * fields.places, *listing()

    @_plainly(3)
    def ask(*given: Any) -> tuple[Any, ...]:
        if not (inputs := fields.read(given, one=True)):
            return _said(""), gr.Label(visible=False), ""
        if learns and not service.classes().result():
            raise DataError("It knows no class yet: teach it one first.")
        (found,) = service.predict(inputs, 5, _NEAREST).result()
        told = kind.in_json(found)
        if "ranking" not in told:
            drawn = parts_drawn(service.kind, service.modality, inputs[0].item, told)
            return _answered(told), gr.Label(visible=False), drawn
        chances = {str(each["name"]): each["probability"] for each in told["ranking"]}
        return _answered(told), gr.Label(chances, visible=True), _near(told["nearest"], media)

    @_plainly(4)
    def rename(name: str | None, new: str | None, request: gr.Request) -> tuple[Any, ...]:
        name, new = _named(name, "the class", "Choose"), _named(new, "its new name", "Type")
        service.rename(name, new, _visitor(request)).result()
        return _said(f"<b>{escape(name)}</b> is called <b>{escape(new)}</b> now.", "known"), *listing()

    @_plainly(5)
    def forget(name: str | None, button: str, request: gr.Request) -> tuple[Any, ...]:
        name = _named(name, "the class", "Choose")
        known, sure = named(), f"Really forget {name}?"
        if name in known and button != sure:
            said = f"<b>{escape(name)}</b> and its {_examples(known[name])} will be gone for good."
            return _said(said, "unknown"), *[gr.skip()] * 3, sure
        service.forget(name, _visitor(request)).result()
        return _said(f"<b>{escape(name)}</b> is forgotten.", "known"), *listing(), _FORGET

    with gr.Blocks(title=f"{service.name}: quickstudy", analytics_enabled=False, delete_cache=(300, 1800)) as page:
        about = gr.HTML(elem_id="about")
        with gr.Row(elem_id="board", elem_classes="" if learns else "alone"):
            with gr.Column(elem_classes="card", elem_id="teaching", visible=learns and not marks):
                none = " Without any, its name counts as one." if service.learns_names else ""
                gr.HTML(f"<h2>Teach a class</h2><p class='hint'>One {noun} is enough; a few are better.{none}</p>")
                name = gr.Textbox(label="Name of the class", max_length=256, elem_id="name")
                examples = fields.several()
                teach_button = gr.Button("Teach", variant="primary", elem_id="teach")
                taught = gr.HTML(elem_id="taught")
            with gr.Column(elem_classes="card", elem_id="asking"):
                hint = f"{_ONCE_TAUGHT} {_a(noun)} is like none." if learns else _FIXED * bool(kind.labels)
                if marks:
                    hint = f"Classes are taught by {noun}s with {marks}, as <a href='docs'>programs</a> send them."
                gr.HTML(f"<h2>Ask about {_a(noun)}</h2><p class='hint'>{hint}</p>")
                asked = fields.one()
                ask_button = gr.Button("What is it?", variant="primary", elem_id="ask")
                answer = gr.HTML(elem_id="answer")
                ranking = gr.Label(label="Likeliest classes", show_heading=False, visible=False, elem_id="ranking")
                nearest = gr.HTML(elem_id="nearest")
            with gr.Column(elem_classes="card", elem_id="keeping", visible=learns):
                gr.HTML("<h2>Classes</h2><p class='hint'>Choose one to see its examples, or to change it.</p>")
                classes = gr.HTML(elem_id="classes")
                with gr.Row():
                    chosen = gr.Dropdown(label="Class", choices=[], allow_custom_value=True, elem_id="chosen")
                    new_name = gr.Textbox(label="New name", max_length=256, elem_id="new-name")
                with gr.Row():
                    rename_button = gr.Button("Rename", size="md", elem_id="rename")
                    forget_button = gr.Button(_FORGET, variant="stop", size="md", elem_id="forget")
                changed = gr.HTML(elem_id="changed")
                shown = gr.HTML(elem_id="shown")

        options: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 4, "show_progress": "hidden"}
        lists = [about, classes, chosen]
        page.load(listing, None, lists, **options)
        gr.on([teach_button.click, name.submit], teach, [name, *examples], [taught, *examples, *lists], **options)
        done = "submit" if fields.typed else "change"  # else it would answer to half a word
        given = [getattr(field, done) for field in asked if hasattr(field, done)]
        gr.on([*given, ask_button.click], ask, asked, [answer, ranking, nearest], **options)
        gr.on([rename_button.click, new_name.submit], rename, [chosen, new_name], [changed, *lists], **options)
        forget_button.click(forget, [chosen, forget_button], [changed, *lists, forget_button], **options)
        chosen.change(None, None, forget_button, js=f"() => '{_FORGET}'", **options)  # what was asked was of another
        chosen.change(show, chosen, shown, **options)
    page.queue(api_open=False, max_size=256)
    return page


def _plainly(outputs: int) -> Callable[[Callable[..., tuple[Any, ...]]], Callable[..., tuple[Any, ...]]]:
    """Make a function say in its first output why it failed, and leave the others as they are."""

    def wrap(function: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
        @wraps(function)
        def plain(*given: Any) -> tuple[Any, ...]:
            try:
                return function(*given)
            except QuickstudyError as error:
                why = str(error)
            except Exception:
                _LOG.exception("a request from the page failed")
                why = "That failed in a way that nobody foresaw. The service's log says more."
            return _said(escape(why[:1].upper() + why[1:]), "failed"), *[gr.skip()] * (outputs - 1)

        return plain

    return wrap


def _visitor(request: gr.Request) -> str:
    return f"a visitor of the page at {request.client.host}"


def _named(name: str | None, what: str, how: str = "Type the name of") -> str:
    name = (name or "").strip()
    if not 0 < len(name) <= 256:
        raise DataError(f"{how} {what} first." if not name else "A name has at most 256 characters.")
    return name


def _answered(told: Mapping[str, Any]) -> str:
    """Return an answer in a sentence: of classes, or of one value; and any other as it goes over HTTP."""
    if "ranking" not in told:
        if (parts := parts_said(told)) is not None:
            return _said(parts, _KNOWN) if parts else ""
        value = next(iter(told.values())) if len(told) == 1 else None
        if isinstance(value, (str, int, float)):
            said = f"{value:.4g}" if isinstance(value, float) else escape(str(value))
            return _said(f"This is <b>{said}</b>.", _KNOWN)
        return _said(f"<pre class='plain'>{escape(json.dumps(told))}</pre>", "known")
    label, name, chance = told["label"], str(told["ranking"][0]["name"]), told["ranking"][0]["probability"]
    if label == UNKNOWN:
        return _said(
            f"<b>Unknown.</b> This is like none of the examples; <b>{escape(name)}</b> would be nearest.",
            "unknown answer",
        )
    if isinstance(label, list):  # of several labels those above their thresholds
        labels = ", ".join(f"<b>{escape(str(each))}</b>" for each in label)
        return _said(f"This is {labels or 'none of the labels'}.", _KNOWN)
    return _said(f"This is <b>{escape(name)}</b> ({chance:.0%}).", _KNOWN)


def _said(text: str, kind: str = "") -> str:
    inner = f'<p class="says {kind}">{text}</p>' if text else ""
    return f'<div role="status">{inner}</div>'


def _near(nearest: Sequence[Mapping[str, Any]], media: str) -> str:
    """Return support examples near an input, as they go over HTTP; none of a model that keeps none."""
    if not nearest:
        return ""
    figures = []
    for each in nearest:
        name, away = escape(str(each["name"])), escape(how_far(each["distance"], each["same"]))
        seen = _seen(base64.b64decode(each["thumbnail"]), f"an example of {each['name']}", media)
        figures.append(f"<figure>{seen}<figcaption><b>{name}</b><br>{away}</figcaption></figure>")
    return f"<h3>Nearest examples</h3>{_side_by_side(figures, media)}"


def _about(about: Mapping[str, Any], expected: Sequence[str]) -> str:
    """Return which model it is, and how good it is thought to be."""
    backbone = about["backbone"] or "a network of its own"
    classes = f": {about['classes']:,} class{'' if about['classes'] == 1 else 'es'}"
    written = f", written {about['written'][:10]}" if about["written"] else ""
    if "strategy" in about:
        how, learned = f"<b>{escape(about['strategy'])}</b> on ", f" from {_examples(about['examples'])}"
    else:
        how = learned = ""
    if not about["classes"] and "held_out_accuracy" not in about:  # answers are no classes
        classes = ""
    lines = [f"{how}<b>{escape(backbone)}</b>{classes}{learned}{written}", *map(escape, expected)]
    told = "".join(f"<p class='hint'>{line}</p>" for line in lines)
    return f"<h1>{escape(about['name'])} <small>by quickstudy</small></h1>{told}"


def _shown(name: str, thumbnails: Sequence[bytes], media: str) -> str:
    """Return the examples of a class."""
    pictures = [each for each in thumbnails if each][:_MOST_PICTURES]
    figures = [f"<figure>{_seen(each, f'an example of {name}', media)}</figure>" for each in pictures]
    left = len(thumbnails) - len(pictures)
    more = f"<p class='hint'>and {left:,} more</p>" if pictures and left else ""
    none = "" if pictures else "<p class='hint'>It came with nothing to see of its examples.</p>"
    return f"<h3>Examples of {escape(name)}</h3>{_side_by_side(figures, media)}{more}{none}"


def _side_by_side(figures: Sequence[str], media: str) -> str:
    wide = "" if media.startswith("image/") else " wide"
    return f"<div class='near{wide}'>{''.join(figures)}</div>"


def _seen(content: bytes, what: str, media: str) -> str:
    """Return what ``Modality.show`` made, of a media type, as a part of the page."""
    if not content:
        return '<div class="none"></div>'
    source, family = f"data:{media};base64,{base64.b64encode(content).decode()}", media.partition("/")[0]
    if family == "image":
        return f'<img src="{source}" alt="{escape(what)}">'
    if family in ("audio", "video"):
        return f'<{family} controls src="{source}" aria-label="{escape(what)}"></{family}>'
    return f'<div class="text">{escape(content.decode("utf-8", "replace"))}</div>'


def _listed(known: dict[str, int]) -> str:
    if not known:
        return "<p class='hint'>None yet.</p>"
    shown = [f"<li><b>{escape(name)}</b> {_examples(count)}</li>" for name, count in list(known.items())[:_MOST_SHOWN]]
    more = f"<p class='hint'>and {len(known) - _MOST_SHOWN:,} more</p>" if len(known) > _MOST_SHOWN else ""
    return f"<ul class='classes'>{''.join(shown)}</ul>{more}"


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _examples(count: int) -> str:
    return f"{count:,} example{'' if count == 1 else 's'}"
