/** The right pane: the members of the room, and ways for others to get in. */

import { number, reasonOf, t } from '../shared.js';
import { html, useEffect, useState } from '../vendor/ui.js';
import { addressOf, can, leave, known, line, linkTo, me, news, presentAs, recheck, rooms, stir } from './model.js';
import { Dot } from './dot.js';

/** @typedef {import('./talk.js').Talk} Talk */

const REFRESH_MS = 10_000;
const ROLES = ['owner', 'admin', 'member'];

/** @param {{ talk: Talk }} props */
export function People({ talk }) {
  const [members, setMembers] = useState(/** @type {import('../sdk/rooms.js').Member[]} */ ([]));
  const [refusal, setRefusal] = useState('');
  useEffect(() => {
    let isOver = false;
    const look = async () => {
      const asked = news.now;
      try {
        const page = await rooms.members(talk.name, { limit: 100 });
        if (isOver) return;
        known(talk, page.members);
        setMembers(page.members.filter(({ role }) => ROLES.includes(role)));
        presentAs(page.members, asked);
        setRefusal('');
      } catch (error) {
        if (isOver) return;
        setRefusal(reasonOf(error));
        if ([403, 404].includes(/** @type {any} */ (error).status)) recheck(talk);
      }
    };
    look();
    // No event tells of users who come and say nothing.
    const timer = setInterval(() => { if (!document.hidden) look(); }, REFRESH_MS);
    return () => {
      isOver = true;
      clearInterval(timer);
    };
  }, [talk, stir.value, line.value.state === 'open']);

  return html`
    <aside class="pane people" aria-label=${t('chat.people')}>
      <div class="scroll">
        <a class="back" href=${addressOf(talk)}>${t('chat.back')}</a>
        ${ROLES.map((role) => {
          const some = members.filter((member) => member.role === role);
          return some.length > 0 && html`
            <h2>${t(`chat.role.${role}`)} · ${number(some.length)}</h2>
            <ul>${some.map((member) => html`<${Person} key=${member.user} talk=${talk} member=${member} refuse=${setRefusal} />`)}</ul>`;
        })}
        ${talk.room.value.see === 'admins' && html`<p class="hint">${t('chat.masked')}</p>`}
        <p class="status bad" role="status">${refusal}</p>
        <${Invite} talk=${talk} />
        <button type="button" onClick=${() => leave(talk).catch((error) => setRefusal(reasonOf(error)))}>${t('chat.leave')}</button>
      </div>
    </aside>`;
}

/** @param {{ talk: Talk, member: import('../sdk/rooms.js').Member, refuse: (why: string) => void }} props */
function Person({ talk, member: { user, as, nick, role, wires = [] }, refuse }) {
  const isMe = user === me.value;
  const isKnown = talk.room.value.see !== 'admins' || Boolean(as);
  const may = talk.room.value.may?.moderate && !isMe && role === 'member';
  const ban = () => rooms.role(talk.name, user, 'banned').then(() => { stir.value += 1; }, (error) => refuse(reasonOf(error)));
  return html`
    <li class="person">
      <${Dot} user=${user} />
      <span class="names" dir="auto">${nick || user}${isMe && ` ${t('chat.you')}`}${nick !== user && html`<small>${user}</small>`}</span>
      ${(isMe && line.value.wire ? [line.value.wire] : wires).map((wire) => html`<span key=${wire} class="chip" data-wire=${wire}>${t(`wire.${wire}`)}</span>`)}
      ${can.value.conversations && !isMe && isKnown && html`<a href=${addressOf({ kind: 'user', name: user })} aria-label=${t('chat.writeTo', { who: nick || user })}>${t('chat.direct')}</a>`}
      ${may && html`<button type="button" aria-label=${t('chat.banWhom', { who: nick || user })} onClick=${ban}>${t('chat.ban')}</button>`}
    </li>`;
}

/** A link, its picture for a phone's camera, or a name. @param {{ talk: Talk }} props */
function Invite({ talk }) {
  const link = linkTo(talk.name);
  const [code, setCode] = useState(/** @type {{ size: number, data: boolean[][] } | null} */ (null));
  const [user, setUser] = useState('');
  const [said, setSaid] = useState({ text: '', isBad: false });
  useEffect(() => {
    let isOver = false;
    import('../vendor/qr.js').then(({ encode }) => { if (!isOver) setCode(encode(link)); }, () => {});
    return () => { isOver = true; };
  }, [link]);
  const copy = () => navigator.clipboard.writeText(link).then(() => setSaid({ text: t('chat.copied'), isBad: false }), (error) => setSaid({ text: reasonOf(error), isBad: true }));
  const invite = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await rooms.invite(talk.name, user.trim());
      setSaid({ text: t('chat.invited', { user: user.trim() }), isBad: false });
      setUser('');
    } catch (error) {
      setSaid({ text: reasonOf(error), isBad: true });
    }
  };
  return html`
    <section class="invite" aria-labelledby="invite-title">
      <h2 id="invite-title">${t('chat.invite')}</h2>
      <p class="hint"><a href=${link} target="_blank" rel="noopener">${link}</a></p>
      ${code && html`<${Picture} code=${code} label=${t('chat.qr', { link })} />`}
      <div class="row"><button type="button" onClick=${copy}>${t('chat.copyLink')}</button></div>
      ${talk.room.value.may?.invite && html`
        <form class="row" onSubmit=${invite}>
          <label for="invite-user">${t('chat.inviteUser')}</label>
          <input id="invite-user" required maxlength="128" autocomplete="off" value=${user} onInput=${(/** @type {any} */ event) => setUser(event.target.value)} />
          <button>${t('chat.invite.go')}</button>
        </form>`}
      <p class=${`status ${said.isBad ? 'bad' : ''}`} role="status">${said.text}</p>
    </section>`;
}

/** @param {{ code: { size: number, data: boolean[][] }, label: string }} props */
function Picture({ code: { size, data }, label }) {
  const path = data.flatMap((line, y) => line.map((isDark, x) => (isDark ? `M${x} ${y}h1v1h-1z` : ''))).join('');
  return html`<svg class="qr" role="img" aria-label=${label} viewBox=${`-2 -2 ${size + 4} ${size + 4}`} shape-rendering="crispEdges"><path d=${path} /></svg>`;
}
