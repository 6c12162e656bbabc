"""What is told and not kept: who has read how far, who is writing. Only the newest counts."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from services.messaging.live import frames
from services.messaging.live.dialog import Dialog, Person
from services.messaging.live.frames import Piece
from services.messaging.live.wire import News


def tell_reading(dialogs: Mapping[UUID, Dialog], people: Mapping[UUID, Person], news: News) -> None:
    """Own devices learn how much is unread, others how far somebody is."""
    (user_id,) = news.user_ids
    dialog = dialogs.get(news.dialog_id)
    if dialog is None:
        return
    person = people.get(user_id)
    if person is not None and dialog in person.dialogs:
        if news.seq < person.dialogs[dialog]:
            return
        person.dialogs[dialog] = news.seq
        own = frames.receipt(news.dialog_id, user_id, news.seq, news.unread)
        for session in person.sessions:
            session.push(own)
    if news.to_all:
        _tell_others(dialog, user_id, frames.receipt(news.dialog_id, user_id, news.seq))


def tell_typing(dialogs: Mapping[UUID, Dialog], news: News) -> None:
    """Others learn who is writing, where they are few."""
    dialog = dialogs.get(news.dialog_id)
    if dialog is not None and dialog.small:
        _tell_others(dialog, news.user_ids[0], frames.typing(news.dialog_id, news.user_ids[0]))


def _tell_others(dialog: Dialog, user_id: UUID, piece: Piece) -> None:
    for person in dialog.people:
        if person.id != user_id:
            for session in person.sessions:
                session.push(piece)
