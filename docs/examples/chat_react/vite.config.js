// While you work on the page, `npm run dev` serves it and sends requests on to server.py.
export default { server: { proxy: { "/api": "http://127.0.0.1:8080" } } };
