// Runs before the first paint, so that an address with a query never shows the start page first.
document.documentElement.dataset.view = /[?&](key|image|like)=./.test(location.search) ? "search" : "start";
