/** A proxy in front of a server, with the faults that proxies have. */

import http from 'node:http';
import { once } from 'node:events';
import net from 'node:net';

/**
 * `upgrades`: `pass`, `block` (403) or `swallow` (nothing passes after the 101). `events`: `pass` or `buffer` (a stream's
 * bytes are kept until it ends). `patienceMs`: what isn't answered in full by then gets 504. `cutMs`: every connection
 * ends after so long. `prefix`: the server stands under this path. `requests` counts by path.
 */
export class Proxy {
  static async start(target, faults = {}) {
    const proxy = new Proxy();
    Object.assign(proxy, { target: new URL(target), upgrades: 'pass', events: 'pass', prefix: '', requests: [], pairs: [], sockets: new Set(), ...faults });
    proxy.server = http.createServer((request, response) => proxy.#pass(request, response));
    proxy.server.on('upgrade', (request, socket, head) => proxy.#upgrade(request, socket, head));
    proxy.server.on('connection', (socket) => proxy.#connected(socket));
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}${proxy.prefix}`;
    return proxy;
  }

  /** Whether connections get through at all. */
  isDown = false;

  #connected(socket) {
    if (this.isDown) return socket.destroy();
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('error', () => {});
    if (this.cutMs) setTimeout(() => socket.destroy(), this.cutMs).unref();
  }

  /** Ends all connections; with `isDown` no new ones come through. */
  cut(isDown = false) {
    this.isDown = isDown;
    for (const socket of this.sockets) socket.destroy();
  }

  /** The WebSockets stay, but nothing passes them any more, and nobody is told. */
  freeze() {
    for (const [socket, upstream] of this.pairs) {
      socket.unpipe(upstream).resume();
      upstream.unpipe(socket).resume();
    }
  }

  #path(url) {
    return url.slice(this.prefix.length) || '/';
  }

  #pass(request, response) {
    if (!request.url.startsWith(`${this.prefix}/`)) return response.writeHead(404).end('not under the prefix');
    this.requests.push(`${request.method} ${this.#path(request.url)}`);
    const options = { method: request.method, host: this.target.hostname, port: this.target.port, path: this.#path(request.url), headers: request.headers, agent: false };
    const upstream = http.request(options, (answer) => this.#answer(answer, response));
    upstream.on('error', () => response.destroy());
    response.on('close', () => upstream.destroy());
    request.pipe(upstream);
    if (this.patienceMs) this.#limit(upstream, response);
  }

  #limit(upstream, response) {
    const timer = setTimeout(() => {
      upstream.destroy();
      if (!response.headersSent) response.writeHead(504, { 'Content-Type': 'text/html' }).end('<h1>504 Gateway Time-out</h1>');
    }, this.patienceMs);
    response.on('close', () => clearTimeout(timer));
  }

  /** Resolves when an answer was lost on its way back. */
  lost() {
    return new Promise((resolve) => { this.onLost = resolve; });
  }

  #answer(answer, response) {
    if (this.loseAnswers) {
      response.destroy();
      return this.onLost?.();
    }
    const isStream = answer.headers['content-type']?.startsWith('text/event-stream');
    if (!isStream || this.events === 'pass') {
      if (this.patienceMs && isStream) return; // it is never complete
      response.writeHead(answer.statusCode, answer.headers);
      return answer.pipe(response);
    }
    const parts = [];
    response.writeHead(answer.statusCode, answer.headers);
    response.flushHeaders();
    answer.on('data', (part) => parts.push(part));
    answer.on('end', () => response.end(Buffer.concat(parts)));
  }

  #upgrade(request, socket, head) {
    this.requests.push(`UPGRADE ${this.#path(request.url)}`);
    if (this.upgrades === 'block') return socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    const upstream = net.connect(this.target.port, this.target.hostname);
    const lines = [`${request.method} ${this.#path(request.url)} HTTP/1.1`];
    for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
    upstream.write(`${lines.join('\r\n')}\r\n\r\n`);
    upstream.write(head);
    upstream.on('error', () => socket.destroy());
    upstream.on('close', () => socket.destroy());
    socket.on('close', () => upstream.destroy());
    socket.on('error', () => {});
    this.pairs.push([socket, upstream]);
    if (this.upgrades === 'pass') socket.pipe(upstream).pipe(socket);
    else upstream.once('data', (first) => socket.write(first.subarray(0, first.indexOf('\r\n\r\n') + 4)));
  }

  async stop() {
    this.cut();
    this.server.close();
    this.server.closeAllConnections();
    await once(this.server, 'close').catch(() => {});
  }
}
