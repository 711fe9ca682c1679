// Names of the map's regions: written over the map, and as buttons that lead there.

import { button, grouped, h } from "../dom.js";

const NEAR = 2.4; // the zoom from which smaller regions are named
const FONT = '"Segoe UI", Roboto, Cantarell, "Noto Sans", "Liberation Sans", sans-serif';

export class Regions {
  /** @param {(region: any) => void} visit */
  constructor(visit) {
    this.visit = visit;
    this.all = [];
    this.element = h("ul.regions", { "aria-label": "Regions of the map", hidden: true });
  }

  /** @param {{name: string, x: number, y: number, count: number, is_coarse: boolean}[]} regions the larger first */
  show(regions) {
    this.all = regions;
    const seen = new Set();
    const listed = regions.filter(({ name }) => !seen.has(name) && seen.add(name)).slice(0, 24);
    this.element.hidden = !listed.length;
    this.element.replaceChildren(...listed.map((region) => h("li", {}, button("", region.name, () => this.visit(region), {
      text: true, kind: "region", title: `About ${grouped(region.count)} pictures`,
    }))));
  }

  /** Written in the ink and on the ground that `style` has; where no other name stands; the larger regions first. */
  draw(context, camera, style) {
    const near = camera.zoom >= NEAR;
    const taken = [];
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    for (const region of this.all) {
      if (!near && !region.is_coarse && this.all.some((each) => each.is_coarse)) continue;
      const { x, y } = camera.toScreen(region.x * camera.stretch, region.y);
      const size = region.is_coarse ? 17 : 14;
      context.font = `650 ${size}px ${FONT}`;
      const half = context.measureText(region.name).width / 2 + 6;
      const box = { left: x - half, right: x + half, top: y - size, bottom: y + size };
      if (taken.some((other) => box.left < other.right && other.left < box.right && box.top < other.bottom && other.top < box.bottom)) continue;
      taken.push(box);
      context.strokeStyle = style.getPropertyValue("border-top-color");
      context.lineWidth = 5;
      context.strokeText(region.name, x, y);
      context.fillStyle = style.getPropertyValue("text-decoration-color");
      context.fillText(region.name, x, y);
    }
  }
}
