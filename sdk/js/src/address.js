/**
 * An address of the server. What is undefined is left out, lists are repeated.
 * @typedef {Record<string, string | number | string[] | undefined>} Query
 * @param {{ base: URL, label?: string }} settings @param {string} path @param {Query} [query]
 */
export function addressOf({ base, label }, path, query) {
  const address = new URL(path, base);
  for (const [name, value] of Object.entries({ ...query, label })) {
    for (const one of [value ?? []].flat()) address.searchParams.append(name, String(one));
  }
  return address;
}
