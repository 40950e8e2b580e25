// Icons drawn for this extension, 24 by 24; the class applies the theme's colours.
const icon = (body) =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><g class="jp-icon-brand0 jp-icon-selectable" fill="#3155d6">${body}</g></svg>`;

export const icons = {
  tour: icon(
    '<path d="M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zm0 2a8 8 0 1 1 0 16 8 8 0 0 1 0-16z"/><path d="M16.9 7.1l-2.9 6.9-6.9 2.9 2.9-6.9zM12 10.7a1.3 1.3 0 1 0 0 2.6 1.3 1.3 0 0 0 0-2.6z"/>',
  ),
  jobs: icon(
    '<path d="M3 4h18v3.5H3z" opacity=".35"/><path d="M3 4h18v3.5H3zM3 10.2h11v3.5H3z"/><path d="M3 10.2h18v3.5H3z" opacity=".35"/><path d="M3 16.5h18V20H3z" opacity=".35"/><path d="M3 16.5h5V20H3z"/>',
  ),
  compare: icon(
    '<path d="M3 3h2v16h16v2H3z"/><path d="M6.6 15.9L5.4 14.3l4.4-3.4 3.6 2.1L19 6.2l1.5 1.3-6.7 8.1-3.9-2.3z"/><path d="M6.4 9.9L5.6 8.1l4.2-1.9 4.1 3.2 4.4 5.8-1.6 1.2-4.2-5.6-3-2.3z" opacity=".45"/>',
  ),
  search: icon(
    '<path d="M10 2a8 8 0 1 0 4.9 14.3l5.4 5.4 1.4-1.4-5.4-5.4A8 8 0 0 0 10 2zm0 2a6 6 0 1 1 0 12 6 6 0 0 1 0-12z"/><path d="M6.4 13l2.3-3.4 1.5 1.9 1.2-1.5 2.2 3z"/><circle cx="12.3" cy="7.8" r="1.1"/>',
  ),
};
