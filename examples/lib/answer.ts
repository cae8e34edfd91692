/** The text of an answer, put together from the events of its turn. */
export class Answer {
  #text = '';
  #certain = 0;

  /**
   * Takes the next event, by its type and `content`. A `restart` withdraws the text that came since the last event of
   * another type: the model broke off in its middle, and begins it again.
   */
  take(type: string, content: string): void {
    if (type === 'text_delta') this.#text += content;
    if (type === 'restart') this.#text = this.#text.slice(0, this.#certain);
    if (type !== 'text_delta' && type !== 'thinking_delta') this.#certain = this.#text.length;
  }

  get text(): string {
    return this.#text;
  }
}
