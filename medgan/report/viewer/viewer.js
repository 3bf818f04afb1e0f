"use strict";
/* One viewer for the whole page: it moves into the case that is opened, and wakes NiiVue at the first one. */
(() => {
  const CUTS = [["All three", 3], ["Axial", 0], ["Coronal", 1], ["Sagittal", 2]]; // NiiVue's slice types
  const CT_WINDOWS = [["soft tissue", -160, 240], ["bone", -450, 1050], ["lung", -1350, 150], ["brain", 0, 80]];
  const ERROR_COLOURS = { // blue, black, orange: told apart by the colour-blind, and dark where nothing is wrong
    R: [120, 0, 0, 10, 200, 230, 255], G: [200, 114, 60, 10, 90, 159, 225], B: [255, 230, 110, 10, 0, 0, 120],
    A: [255, 255, 255, 255, 255, 255, 255], I: [0, 64, 100, 128, 156, 192, 255],
  };
  const FILL = 0.08; // of a label inside its outline
  const HELP = "Scroll or Page Up and Down change the cut, a click or the arrows move the cross-hair, " +
    "a drag with the right button sets the window, number keys choose the image, O the outlines.";
  let viewer = null; // made once

  const make = (tag, settings = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(settings)) {
      if (key in element) element[key] = value; else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  };

  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
  };

  const wake = async () => {
    if (!window.niivue) {
      const source = await (await unpack(document.getElementById("niivue-source").textContent)).text();
      document.head.append(make("script", { textContent: source }));
    }
    return window.niivue;
  };

  /* A case in full lies beside the page as a script, since a page from a disk may load nothing else. */
  const fetchFull = (path) => new Promise((resolve, reject) => {
    const script = make("script", { src: path });
    window.medganVolumes = (told) => resolve(told);
    script.onload = () => { script.remove(); reject(new Error(`${path} holds no volumes`)); };
    script.onerror = () => { script.remove(); reject(new Error(`${path} is not beside this page`)); };
    document.head.append(script);
  });

  /* Radio buttons in a row; `choose` gets the index. */
  const row = (title, names, choose) => {
    const group = `viewer-${title.toLowerCase()}`;
    const inputs = names.map((_, i) => make("input", { type: "radio", name: group, onchange: () => choose(i) }));
    const labels = names.map((name, i) => make("label", {}, inputs[i], make("span", { textContent: name })));
    const field = make("fieldset", {}, make("legend", { textContent: title }), ...labels);
    return { field, pick: (i) => { inputs[i].checked = true; choose(i); }, at: () => inputs.findIndex((x) => x.checked) };
  };

  class Viewer {
    constructor(library) {
      this.library = library;
      this.canvas = make("canvas", { tabIndex: 0, "aria-label": `Cuts through the volume. ${HELP}` });
      this.frame = make("div", { className: "frame" }, this.canvas);
      this.bar = make("div", { className: "bar" });
      this.readout = make("p", { className: "readout" });
      this.note = make("p", { className: "quiet" });
      this.element = make("div", { className: "viewer" }, this.bar, this.frame, this.readout, this.note,
        make("p", { className: "quiet help", textContent: HELP }));
      this.element.addEventListener("keydown", (event) => this.key(event), true);
    }

    async begin(place) {
      place.append(this.element);
      this.nv = new this.library.Niivue({
        backColor: [0, 0, 0, 1], crosshairColor: [0.9, 0.62, 0, 0.9], crosshairWidth: 0.2, crosshairWidthUnit: "percent", crosshairGap: 3,
        isRadiologicalConvention: true, sagittalNoseLeft: true, multiplanarShowRender: 0, tileMargin: 4,
        isColorbar: false, dragAndDropEnabled: false, atlasOutline: 0.7, isAlphaClipDark: false, logLevel: "error",
        viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", isNearestInterpolation: false, fontMinPx: 12,
      });
      this.nv.onLocationChange = (place) => this.tell(place);
      this.nv.addColormap("medgan_error", ERROR_COLOURS);
      await this.nv.attachToCanvas(this.canvas, false);
    }

    /* Show a case: its volumes are unpacked here, those of the case before are let go. */
    async show(place, told, centre = told.centre) {
      if (this.element.parentElement !== place) place.append(this.element);
      this.told = told;
      const load = async (data, name, { colormap, low, high, opacity = 1 }) => this.library.NVImage.new(
        await (await unpack(data)).arrayBuffer(), `${name}.nii`, colormap, opacity, null, low, high);
      this.images = [];
      for (const { kind, title, window: [low, high], data } of told.images) {
        const image = await load(data, title, { colormap: kind === "error" ? "medgan_error" : "gray", low, high });
        image.cal_min = low;
        image.cal_max = high;
        this.images.push(image);
      }
      this.maps = [];
      for (const { title, data } of told.labels) {
        const map = await load(data, title, { colormap: "gray", opacity: FILL });
        map.setColormapLabel(this.colours());
        this.maps.push(map);
      }
      this.controls();
      const [x, y, z] = centre;
      this.nv.scene.crosshairPos = this.nv.mm2frac([x, y, z]);
      this.nv.drawScene();
      this.nv.createOnLocationChange();
    }

    colours() {
      const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
      for (const { value, name, colour } of this.told.classes) {
        const [red, green, blue] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
        table.R.push(red); table.G.push(green); table.B.push(blue); table.A.push(255); table.I.push(value);
        table.labels[value] = name;
      }
      return table;
    }

    controls() {
      const before = this.image ? this.told.images[this.image.at()]?.kind : "translation";
      this.shown = null;
      this.overlay = null;
      this.image = row("Image", this.told.images.map((image) => image.title), (i) => this.choose(this.images[i], this.overlay));
      this.cut = row("Cuts", CUTS.map(([name]) => name), (i) => this.nv.setSliceType(CUTS[i][1]));
      const fields = [this.image.field, this.cut.field];
      this.outline = null;
      if (this.maps.length) {
        const names = ["none", ...this.told.labels.map((map) => map.title)];
        this.outline = row("Outlines", names, (i) => this.choose(this.shown, i ? this.maps[i - 1] : null));
        fields.push(this.outline.field);
      }
      if (this.told.images.some((image) => image.unit === "HU" && image.kind !== "error")) fields.push(this.windows());
      this.bar.replaceChildren(...fields);
      this.note.replaceChildren(...this.reduced());
      const at = this.told.images.findIndex((image) => image.kind === before);
      this.image.pick(Math.max(0, at));
      this.cut.pick(innerWidth < 700 ? 1 : 0);
      if (this.outline) this.outline.pick(0);
    }

    /* What is said of a case that the page holds reduced, and the button that loads it in full. */
    reduced() {
      const { reduced, full, files } = this.told;
      if (!reduced) return [];
      const paths = Object.entries(files).map(([kind, path]) => `${kind}: ${path}`).join(", ");
      const told = `Reduced by ${reduced}. ${paths ? `In full: ${paths} ` : ""}`;
      return full ? [told, make("button", { type: "button", className: "full", textContent: "Load in full", onclick: () => this.load(full) })] : [told];
    }

    async load(path) {
      const place = this.element.parentElement;
      this.note.textContent = "Loading the volumes in full …";
      try {
        const told = await fetchFull(path);
        if (this.element.parentElement === place) await this.show(place, told, this.nv.frac2mm(this.nv.scene.crosshairPos));
      } catch (mistake) {
        this.note.textContent = `${mistake.message}; the reduced volumes remain.`;
      }
    }

    windows() {
      const select = make("select", {
        onchange: () => {
          this.told.images.forEach(({ unit, kind, window: own }, i) => {
            if (unit !== "HU" || kind === "error") return;
            const [low, high] = select.value ? select.value.split(" ").map(Number) : own;
            this.images[i].cal_min = low;
            this.images[i].cal_max = high;
          });
          this.nv.updateGLVolume();
        },
      }, make("option", { value: "", textContent: "of the report" }),
      ...CT_WINDOWS.map(([name, low, high]) => make("option", { value: `${low} ${high}`, textContent: `${name} (${low} to ${high})` })));
      return make("label", { className: "window" }, make("span", { textContent: "CT window" }), select);
    }

    choose(image, overlay) {
      this.shown = image;
      this.overlay = overlay;
      this.nv.volumes = overlay ? [image, overlay] : [image];
      this.nv.setVolume(image, 0);
      this.nv.createOnLocationChange();
    }

    /* The values of all images under the cross-hair. */
    tell({ mm }) {
      if (!mm || !this.images) return;
      const at = [0, 1, 2].map((axis) => `${(mm[axis] < 0 ? "LPI" : "RAS")[axis]} ${Math.abs(mm[axis]).toFixed(0)}`);
      const value = (image) => image.getValue(...image.mm2vox([mm[0], mm[1], mm[2]]));
      const parts = this.told.images.map(({ title, unit }, i) => {
        const number = Number(value(this.images[i]));
        return [title, `${number.toFixed(Math.abs(number) < 10 && unit !== "HU" ? 2 : 0)}${unit === "HU" ? " HU" : ""}`];
      });
      const names = new Map(this.told.classes.map((one) => [one.value, one.name]));
      this.told.labels.forEach(({ title }, i) => {
        parts.push([title, names.get(Math.round(value(this.maps[i]))) ?? "nothing"]);
      });
      this.readout.replaceChildren(...[["at", `${at.join("  ")} mm`], ...parts].map(([title, text]) =>
        make("span", {}, `${title} `, make("b", { textContent: text }))));
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const onCanvas = event.target === this.canvas;
      const steps = { ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
        PageUp: [0, 0, 1], PageDown: [0, 0, -1] };
      const number = Number(event.key);
      if (onCanvas && event.key in steps) this.nv.moveCrosshairInVox(...steps[event.key]);
      else if (number >= 1 && number <= this.images.length) this.image.pick(number - 1);
      else if (event.key.toLowerCase() === "o" && this.outline) this.outline.pick((this.outline.at() + 1) % (this.maps.length + 1));
      else { if (onCanvas && event.key !== "Tab") event.stopPropagation(); return; }
      event.preventDefault();
      event.stopPropagation();
    }
  }

  const open = async (part) => {
    const say = (text) => {
      const line = part.querySelector(".state") ?? part.appendChild(make("p", { className: "quiet state", role: "status" }));
      line.textContent = text;
      line.hidden = !text;
    };
    if (!document.createElement("canvas").getContext("webgl2")) {
      say("This browser shows no volumes (it has no WebGL 2); the cuts above are all there is.");
      return;
    }
    say("Opening the volumes …");
    try {
      const library = await wake();
      if (!viewer) {
        viewer = new Viewer(library);
        await viewer.begin(part);
      }
      await viewer.show(part, JSON.parse(part.querySelector("script").textContent));
      part.dataset.shown = "yes";
      say("");
    } catch (mistake) {
      say(`The volumes cannot be shown here (${mistake.message}); the cuts above remain.`);
      throw mistake;
    }
  };

  const parts = [...document.querySelectorAll("details.volumes")];
  for (const part of parts) {
    part.addEventListener("toggle", () => {
      delete part.dataset.shown;
      if (!part.open) return;
      for (const other of parts) if (other !== part) other.open = false; // one at a time: one picture memory
      queue = queue.then(() => (part.open ? open(part) : null)).catch((mistake) => console.error(mistake));
    });
  }
  let queue = Promise.resolve();
})();
