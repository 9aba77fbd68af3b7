/** The ways in: a name for the user, and the door of a room that the user isn't in. */

import { TokenForm, ask, attempt, keepToken, number, reasonOf, t, useAnswer } from '../shared.js';
import { html, useEffect, useState } from '../vendor/ui.js';
import { NAME, join, ownNick, rooms } from './model.js';

/** Asks for a name, since nobody can talk without one. */
export function Prompt() {
  const [name, setName] = useState(ownNick() ?? '');
  const [refusal, setRefusal] = useState('');
  const [isOther, setOther] = useState(false);
  const enter = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      const response = await ask('v1/guests', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ name: name.trim() }) });
      attempt(() => localStorage.setItem(NAME, name.trim()));
      keepToken((await response.json()).token);
    } catch (error) {
      setRefusal(t('token.guest.off', { reason: reasonOf(error) }));
    }
  };
  return html`
    <section class="sheet prompt" aria-labelledby="who-title">
      <h1 id="who-title">${t('chat.who')}</h1>
      <form onSubmit=${enter}>
        <label for="guest">${t('token.guest')}</label>
        <div class="row"><input id="guest" class="grow" maxlength="64" autocomplete="nickname" required autofocus value=${name} onInput=${(/** @type {any} */ event) => setName(event.target.value)} /><button class="primary">${t('token.guest.go')}</button></div>
      </form>
      <p class="status bad" role="status">${refusal}</p>
      ${isOther ? html`<${TokenForm} hint=${t('chat.token')} />` : html`<button type="button" onClick=${() => setOther(true)}>${t('chat.haveToken')}</button>`}
    </section>`;
}

/** A room that the user isn't in. @param {{ name: string }} props */
export function Door({ name }) {
  const [room, setRoom] = useState(/** @type {import('../sdk/rooms.js').Room | null} */ (null));
  const [refusal, setRefusal] = useState('');
  const [password, setPassword] = useState('');
  useEffect(() => {
    setRoom(null);
    setRefusal('');
    setPassword('');
  }, [name]);
  const take = (/** @type {import('../sdk/rooms.js').Room} */ room) => {
    setRoom(room);
    setRefusal('');
  };
  useAnswer(() => rooms.get(name), take, (error) => setRefusal(reasonOf(error)), [name]);
  const isLocked = room?.join === 'password' && room.role !== 'invited';
  const enter = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await join(name, ownNick(), isLocked ? password : undefined);
    } catch (error) {
      setRefusal(reasonOf(error));
    }
  };
  return html`
    <section class="pane talk" aria-labelledby="talk-title">
      <div class="door-in">
        <a class="back" href="#/">${t('chat.back')}</a>
        <h2 id="talk-title" dir="auto">${room ? room.title || room.room : name}</h2>
        ${room?.about && html`<p dir="auto">${room.about}</p>`}
        ${room && html`<p class="hint">${t('chat.members', { count: number(room.members ?? 0) })}</p>`}
        ${room?.may?.join !== false && room && html`
          <form class="row" onSubmit=${enter}>
            ${isLocked && html`<label for="room-password">${t('chat.password')}</label><input id="room-password" type="password" required maxlength="128" autocomplete="off" value=${password} onInput=${(/** @type {any} */ event) => setPassword(event.target.value)} />`}
            <button class="primary">${t('chat.join')}</button>
          </form>`}
        ${room?.may?.join === false && html`<p class="hint">${t('chat.invitedOnly')}</p>`}
        <p class="status bad" role="status">${refusal}</p>
      </div>
    </section>`;
}
