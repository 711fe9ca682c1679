"""The forms in which OpenAI's, infinity's and vLLM's clients send texts and pictures."""

from __future__ import annotations

import re

from diptych.serve.web.problems import invalid
from diptych.serve.web.schemas import EmbeddingsBody, Message

_ADDRESS = re.compile(r"(?:data:[\w/+.-]*[;,]|https?://)\S*\Z", re.ASCII | re.IGNORECASE)


def picture_inputs(body: EmbeddingsBody) -> list[str] | None:
    """The addresses of pictures, data URIs most of them; None if the request has texts. Raises RequestProblem."""
    if body.messages is not None:
        return _of_messages(body.messages)
    if body.modality == "image":
        return _inputs(body)
    return None


def text_inputs(body: EmbeddingsBody) -> list[str]:
    """The texts. One that is the address of a picture is refused: it would be embedded as a sentence, which nobody can
    mean. Raises RequestProblem."""
    texts = _texts_of(body.messages) if body.messages is not None else _inputs(body)
    for index, text in enumerate(texts):
        if _ADDRESS.match(text.strip()):
            raise invalid(
                f"input {index} is an address; a picture is sent with modality=image or as an image_url of a message.",
                "input",
            )
    return texts


def _inputs(body: EmbeddingsBody) -> list[str]:
    return [body.input] if isinstance(body.input, str) else list(body.input or ())


def _of_messages(messages: list[Message]) -> list[str] | None:
    """The picture of each message; None if they have texts alone."""
    found = [_picture_of(message) for message in messages]
    if all(address is None for address in found):
        return None
    if any(address is None for address in found):
        raise invalid("some messages have a picture and some have none; send them apart.", "messages")
    return [address for address in found if address is not None]


def _picture_of(message: Message) -> str | None:
    if isinstance(message.content, str):
        return None
    pictures = [part for part in message.content if part.type == "image_url"]
    if not pictures:
        return None
    # vLLM's examples send a text beside a picture, such as "Represent the given image.", which CLIP cannot use
    words = " ".join(part.text or "" for part in message.content if part.type == "text").strip()
    if len(pictures) > 1 or words:
        raise invalid("a message holds one picture and no text: this model has one vector for either.", "messages")
    address = (pictures[0].image_url or {}).get("url")
    if not isinstance(address, str):
        raise invalid("image_url has no url.", "messages")
    return address


def _texts_of(messages: list[Message]) -> list[str]:
    return [
        message.content if isinstance(message.content, str) else " ".join(part.text or "" for part in message.content)
        for message in messages
    ]
