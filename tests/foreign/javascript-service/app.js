// A service in JavaScript, with nothing but what browsers and workers have: the fetch event, Request and Response.

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

let asked = 0;

async function answer(request) {
  asked += 1;
  const { pathname, searchParams } = new URL(request.url);
  if (pathname === '/sum') {
    const numbers = searchParams.getAll('n').map(Number);
    return Response.json({ sum: numbers.reduce((a, b) => a + b, 0), asked });
  }
  if (pathname === '/shout') {
    return new Response((await request.text()).toUpperCase(), { headers: { 'x-asked': String(asked) } });
  }
  return new Response('there is /sum and /shout\n', { status: 404 });
}
