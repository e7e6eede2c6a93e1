// The page of a browser that runs elsewhere: requests are fetched from an address that the harness answers, and the
// answer is the value of the expression that asked for it.

const { describeError, serve } = await import(new URLSearchParams(location.search).get("session"));

globalThis.webdnn = {
  /** Answers the message at a path: `{ message }` in base64, or `{ error }`. */
  async ask(path) {
    try {
      const request = await fetch(path);
      return { message: await base64(await serve(await request.arrayBuffer())) };
    } catch (error) {
      return { error: describeError(error) };
    }
  },
};

function base64(bytes) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(new Blob([bytes]));
  });
}
