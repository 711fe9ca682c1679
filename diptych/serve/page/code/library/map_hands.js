// What fingers, mouse, wheel and keyboard do on the map.

const STEP = 90;

/** @param {import("./map.js").LibraryMap} map */
export function steer(map) {
  const { canvas, camera } = map;
  const pointers = new Map();
  let travelled = 0;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = place(event);
    const lines = event.deltaMode === 1 ? 16 : 1;
    map.zoomBy(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0018)), x, y);
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, place(event));
    if (pointers.size === 1) travelled = 0;
    canvas.setPointerCapture(event.pointerId);
  });

  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    const before = pointers.get(event.pointerId);
    if (!before) return map.point(now.x, now.y);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    travelled += Math.hypot(now.x - before.x, now.y - before.y);
    if (other) {
      const ratio = Math.hypot(now.x - other.x, now.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
      camera.panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
      map.zoomBy(ratio, (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else if (travelled > 4) {
      canvas.classList.add("moving");
      camera.panBy(now.x - before.x, now.y - before.y);
      map.moved();
    }
    pointers.set(event.pointerId, now);
  });

  const end = (event) => {
    const single = pointers.size === 1;
    pointers.delete(event.pointerId);
    canvas.classList.remove("moving");
    if (single && travelled <= 4 && event.type === "pointerup") map.open(map.under(place(event).x, place(event).y));
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => (map.peek.hidden = true));
  canvas.addEventListener("focus", () => map.redraw());
  canvas.addEventListener("blur", () => map.redraw());

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const pan = (x, y) => () => (camera.panBy(x, y), map.moved());
    const ways = {
      ArrowLeft: pan(STEP, 0), ArrowRight: pan(-STEP, 0), ArrowUp: pan(0, STEP), ArrowDown: pan(0, -STEP),
      "+": () => map.zoomBy(1.5), "=": () => map.zoomBy(1.5), "-": () => map.zoomBy(1 / 1.5), 0: () => map.fit(), Enter: () => map.open(map.middle()),
    };
    if (!ways[event.key]) return;
    event.preventDefault();
    ways[event.key]();
    if (event.key !== "Enter") {
      clearTimeout(map.describing);
      map.describing = setTimeout(() => map.describe(), 500);
    }
  });
}
