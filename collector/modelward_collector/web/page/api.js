// Requests to the collector.

export class ApiError extends Error {}

async function answerOf(response) {
  if (response.status === 401) {
    location.assign("/login");
    throw new ApiError("A login is needed.");
  }
  let body;
  try {
    body = await response.json();
  } catch {
    throw new ApiError(`The collector answered ${response.status}.`);
  }
  if (!response.ok) throw new ApiError(body.error ?? `The collector answered ${response.status}.`);
  return body;
}

/** Asks for a change. The body goes as JSON, which no form of another site can send. */
export async function send(method, path, body = undefined) {
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, {
      method,
      headers: { accept: "application/json", "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError("The collector does not answer.");
  }
  return answerOf(response);
}

export async function get(path, parameters = {}, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined);
  const query = new URLSearchParams(given).toString();
  let response;
  try {
    response = await fetch(`/api/v1/${path}${query ? `?${query}` : ""}`, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The collector does not answer.");
  }
  return answerOf(response);
}
