/** The table of connections, for operators: who is connected, over what, how far behind; and an end to any of them. */

const REFRESH_MS = 2000;
const MOST = 100;
const find = (selector) => document.querySelector(selector);

/** Begins to show connections, if the address brings a token: `#token=…`, which a browser keeps to itself. */
export function watchConnections(client) {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (!token) return;
  client.token = token;
  find('#connections').hidden = false;
  refresh(client);
}

async function refresh(client) {
  try {
    if (!document.hidden) show(client, await (await client.request(`/v1/connections?limit=${MOST}`)).json());
  } catch (problem) {
    say(problem.message);
    if (!problem.isPassing) return;
  }
  setTimeout(() => refresh(client), REFRESH_MS);
}

function show(client, { connections, more }) {
  const table = find('#connections tbody');
  const known = new Map([...table.rows].map((row) => [row.dataset.id, row]));
  // A row stays the same element as long as its connection: whoever is about to press its button has the focus there.
  table.replaceChildren(...connections.map((connection) => fill(known.get(connection.id) ?? row(client, connection.id), connection)));
  say(`${connections.length}${more ? ' of more' : ''} connected`);
}

function row(client, id) {
  const line = document.createElement('tr');
  line.dataset.id = id;
  for (let i = 0; i < 6; i += 1) line.insertCell();
  const kick = document.createElement('button');
  Object.assign(kick, { type: 'button', textContent: 'Kick' });
  kick.setAttribute('aria-label', `Kick ${id}`);
  kick.addEventListener('click', async () => {
    kick.disabled = true;
    try {
      await client.request(`/v1/connections/${encodeURIComponent(id)}?reason=from%20the%20page`, { method: 'DELETE' });
    } catch (problem) {
      kick.disabled = false;
      say(problem.message);
    }
  });
  line.lastElementChild.append(kick);
  return line;
}

function fill(line, { user, device, wire, address, since, lag, bytes_out }) {
  const who = user ? user + (device ? ` on ${device}` : '') : 'anonymous';
  const texts = [who, wire, address, new Date(since).toLocaleTimeString(), `${lag} behind, ${bytes_out} B`];
  texts.forEach((text, i) => {
    if (line.cells[i].textContent !== text) line.cells[i].textContent = text;
  });
  return line;
}

function say(text) {
  const status = find('#connections .status');
  if (status.textContent !== text) status.textContent = text;
}
