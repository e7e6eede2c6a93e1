// The page that the Chromium engine opens: fetches a request, answers it, posts the answer.

import { describeError, serve } from "./session.js";

globalThis.webdnn = {
  /** Answers the request with this number; returns null, or the error that it met. */
  async answer(number) {
    try {
      const request = await fetch(`/webdnn/request/${number}`);
      const message = await serve(await request.arrayBuffer());
      await fetch(`/webdnn/response/${number}`, { method: "POST", body: message });
      return null;
    } catch (error) {
      return describeError(error);
    }
  },
};
