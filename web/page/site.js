/** The description of an exported page, site.json, and its files. `fer-edge export web` writes it. */

/**
 * @typedef {object} Site
 * @property {string} fer_edge Version that exported the page.
 * @property {string} model Path of the classifier's file.
 * @property {{name: string, file: string}} detector
 * @property {Record<string, string>} packages Version by name of the npm package.
 * @property {Record<string, unknown>} record The model's part of a latency record.
 * @property {Record<string, string>} files Integrity, as in the integrity attribute, by path.
 */

/**
 * @param {string} base URL of the page's folder.
 * @returns {Promise<Site>}
 */
export async function readSite(base) {
  const response = await fetch(new URL("site.json", base));
  if (!response.ok) throw new Error(missing("site.json", response.status));
  return response.json();
}

/**
 * Fetch a file of the page. The browser rejects it if it differs from the exported one.
 *
 * @param {Site} site
 * @param {string} path
 * @param {string} base URL of the page's folder.
 * @returns {Promise<Response>}
 */
export async function fetchFile(site, path, base) {
  const integrity = site.files[path];
  if (!integrity) throw new Error(missing(path, 404));
  const url = new URL(path, base);
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, { integrity });
  } catch (error) {
    // fetch gives the same error for a changed file and for a lost connection.
    throw new Error(
      `${path} cannot be loaded: there is no connection to the server, or the file was changed. Reload the page, or export it again`,
      { cause: error },
    );
  }
  if (!response.ok) throw new Error(missing(path, response.status));
  return response;
}

/**
 * @param {string} path
 * @param {number} status
 */
function missing(path, status) {
  return `${path} is missing on the server (status ${status}). Copy the whole folder, or export the page again: fer-edge export web MODEL`;
}
