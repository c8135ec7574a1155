"""What is on the page: teach a class, ask about a picture, look after the classes."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from quickstudy.data.samples import Loaded
from quickstudy.errors import DataError, QuickstudyError
from quickstudy.learning.changes import UNKNOWN
from quickstudy.learning.explaining import Answer, Neighbour
from quickstudy.serve.decoding import Decoder, File
from quickstudy.serve.service import Service

_MOST_SHOWN = 500  # classes
_MOST_PICTURES = 60  # of a class
_NEAREST = 6
_FORGET = "Forget"
_ONCE_TAUGHT = "Once there are three examples in classes of two or more, it also says when a picture is like none."
_FIXED = "It knows the classes that it was trained on, and no others."
_LOG = logging.getLogger(__name__)

CSS = """
.gradio-container {max-width: 1120px !important; margin: 0 auto !important}
.gradio-container .app {padding: 0 !important}
.gradio-container main {padding: 1rem !important}
#board {display: grid; grid-template: "teach ask" auto "classes ask" 1fr / 1fr 1fr; gap: 1rem; align-items: start}
#teaching {grid-area: teach} #asking {grid-area: ask} #keeping {grid-area: classes}
@media (max-width: 800px) {
  #board {grid-template: "teach" "ask" "classes" / minmax(0, 1fr)}
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
.near img, .near .none {width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 6px; margin: 0 !important;
  background: var(--background-fill-secondary)}
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
    """Return the page as Gradio's blocks; a model that does not learn has no cards for its classes.

    Args:
        service: what answers.
        decoder: of what is dropped on it.
    """
    learns = service.learns

    def named() -> dict[str, int]:
        return {str(name): count for name, count in service.classes().result().items()}

    def listing() -> tuple[str, str, Any]:
        known = named()
        told = _about(service.about().result(), service.expected().result())
        return told, _listed(known), gr.Dropdown(choices=list(known)[:_MOST_SHOWN], value=None)

    @_plainly(1)
    def show(name: str | None) -> tuple[Any, ...]:
        return (_shown(name, service.thumbnails(name).result()) if name and name in named() else "",)

    @_plainly(5)
    def teach(name: str | None, files: list[str] | None, request: gr.Request) -> tuple[Any, ...]:
        name = _named(name, "the class")
        if not files:
            raise DataError("Choose one or more pictures of it first.")
        count = service.teach(name, _decoded(decoder, files), _visitor(request)).result()
        said = f"Learned. <b>{escape(name)}</b> has {_examples(count)} now."
        return _said(said, "known"), None, *listing()

    @_plainly(3)
    def ask(path: str | None) -> tuple[Any, ...]:
        if path is None:
            return _said(""), gr.Label(visible=False), ""
        pictures = _decoded(decoder, [path])
        if service.learns and not service.classes().result():
            raise DataError("It knows no class yet: teach it one first.")
        (found,) = service.predict(pictures, 5, _NEAREST).result()
        if not isinstance(found, Answer):
            return _said(f"This is <b>{found:.4g}</b>.", "known answer"), gr.Label(visible=False), ""
        chances = {str(name): chance for name, chance in found.ranking}
        return _answered(found), gr.Label(chances, visible=True), _near(found.nearest)

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
        with gr.Row(elem_id="board"):
            with gr.Column(elem_classes="card", elem_id="teaching", visible=learns):
                gr.HTML("<h2>Teach a class</h2><p class='hint'>One picture is enough; a few are better.</p>")
                name = gr.Textbox(label="Name of the class", max_length=256, elem_id="name")
                files = gr.File(
                    label="Pictures of it",
                    file_count="multiple",
                    file_types=["image"],
                    height=170,
                    elem_id="examples",
                )
                teach_button = gr.Button("Teach", variant="primary", elem_id="teach")
                taught = gr.HTML(elem_id="taught")
            with gr.Column(elem_classes="card", elem_id="asking"):
                gr.HTML(f"<h2>Ask about a picture</h2><p class='hint'>{_ONCE_TAUGHT if learns else _FIXED}</p>")
                picture = gr.Image(
                    label="Picture",
                    type="filepath",
                    sources=["upload", "webcam", "clipboard"],
                    height=260,
                    buttons=[],
                    elem_id="picture",
                )
                picture.preprocess = _path  # type: ignore[method-assign]  # the decoder's checks, not Gradio's, come first
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
        gr.on([teach_button.click, name.submit], teach, [name, files], [taught, files, *lists], **options)
        gr.on([picture.change, ask_button.click], ask, picture, [answer, ranking, nearest], **options)
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


def _path(payload: Any) -> str | None:
    return None if payload is None else payload.path


def _named(name: str | None, what: str, how: str = "Type the name of") -> str:
    name = (name or "").strip()
    if not 0 < len(name) <= 256:
        raise DataError(f"{how} {what} first." if not name else "A name has at most 256 characters.")
    return name


def _decoded(decoder: Decoder, paths: list[str]) -> list[Loaded]:
    if len(paths) > decoder.limits.images:
        raise DataError(f"{len(paths)} pictures are too many at once: choose up to {decoder.limits.images}.")
    pictures = []
    for number, path in enumerate(paths, 1):
        which = f"Picture {number} of {len(paths)}" if len(paths) > 1 else "The picture"
        try:
            pictures.append(decoder.one(File(Path(path).read_bytes(), path)))
        except DataError as error:
            raise DataError(f"{which} cannot be used: {error}") from error
        except OSError as error:
            raise DataError(f"{which} is no longer here: choose it again.") from error
    return pictures


def _answered(found: Answer) -> str:
    name, chance = str(found.ranking[0][0]), found.ranking[0][1]
    if found.label == UNKNOWN:
        return _said(
            f"<b>Unknown.</b> This is like none of the examples; <b>{escape(name)}</b> would be nearest.",
            "unknown answer",
        )
    if isinstance(found.label, list):  # of several labels those above one half
        labels = ", ".join(f"<b>{escape(str(label))}</b>" for label in found.label)
        return _said(f"This is {labels or 'none of the labels'}.", "known answer")
    return _said(f"This is <b>{escape(name)}</b> ({chance:.0%}).", "known answer")


def _said(text: str, kind: str = "") -> str:
    inner = f'<p class="says {kind}">{text}</p>' if text else ""
    return f'<div role="status">{inner}</div>'


def _near(nearest: list[Neighbour]) -> str:
    figures = []
    for each in nearest:
        name = escape(str(each.name))
        image = _image(each.thumbnail, f"an example of {each.name}") if each.thumbnail else '<div class="none"></div>'
        away = f"{each.distance:.3g}" if each.distance < 10 else f"{each.distance:,.0f}"
        figures.append(f"<figure>{image}<figcaption><b>{name}</b><br>{away} away</figcaption></figure>")
    return f"<h3>Nearest examples</h3><div class='near'>{''.join(figures)}</div>"


def _about(about: Mapping[str, Any], expected: Sequence[str]) -> str:
    """Return which model it is, and how good it is thought to be."""
    backbone = about["backbone"] or "a network of its own"
    classes = f"{about['classes']:,} class{'' if about['classes'] == 1 else 'es'}"
    written = f", written {about['written'][:10]}" if about["written"] else ""
    if "strategy" in about:
        how, learned = f"<b>{escape(about['strategy'])}</b> on ", f" from {_examples(about['examples'])}"
    else:
        how = learned = ""
    lines = [f"{how}<b>{escape(backbone)}</b>: {classes}{learned}{written}", *map(escape, expected)]
    told = "".join(f"<p class='hint'>{line}</p>" for line in lines)
    return f"<h1>{escape(about['name'])} <small>by quickstudy</small></h1>{told}"


def _shown(name: str, thumbnails: Sequence[bytes]) -> str:
    """Return the examples of a class."""
    pictures = [each for each in thumbnails if each][:_MOST_PICTURES]
    figures = "".join(f"<figure>{_image(each, f'an example of {name}')}</figure>" for each in pictures)
    left = len(thumbnails) - len(pictures)
    more = f"<p class='hint'>and {left:,} more</p>" if pictures and left else ""
    none = "" if pictures else "<p class='hint'>It came without small pictures of its examples.</p>"
    return f"<h3>Examples of {escape(name)}</h3><div class='near'>{figures}</div>{more}{none}"


def _image(thumbnail: bytes, what: str) -> str:
    source = f"data:image/jpeg;base64,{base64.b64encode(thumbnail).decode()}"
    return f'<img src="{source}" alt="{escape(what)}">'


def _listed(known: dict[str, int]) -> str:
    if not known:
        return "<p class='hint'>None yet.</p>"
    shown = [f"<li><b>{escape(name)}</b> {_examples(count)}</li>" for name, count in list(known.items())[:_MOST_SHOWN]]
    more = f"<p class='hint'>and {len(known) - _MOST_SHOWN:,} more</p>" if len(known) > _MOST_SHOWN else ""
    return f"<ul class='classes'>{''.join(shown)}</ul>{more}"


def _examples(count: int) -> str:
    return f"{count:,} example{'' if count == 1 else 's'}"
