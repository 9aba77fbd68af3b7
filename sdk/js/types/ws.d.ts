/** Reads until it fails; after a 401 once more with another token. @param {Link} link */
export function ws(link: Link): Promise<void>;
import type { Link } from './link.js';
